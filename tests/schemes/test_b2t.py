"""B2T: the bottom of a layer reaches its last norm."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from addnorm import EncoderDecoder, Stack, Transformer, UserError
from addnorm.schemes.b2t import B2T
from addnorm.schemes.post_norm import PostNorm
from addnorm.stack import sites
from addnorm.testing.small_models import initial_factors, small, tokens
from transcription import Parts, assert_agrees, norm, real_sublayers


def equation(parts: Parts) -> Tensor:
    x = parts.x
    for layer in range(len(parts.F) // 2):
        one, two = 2 * layer, 2 * layer + 1
        y = norm(x + parts.F[one](x), parts.at[one], "norm")
        x = norm(x + y + parts.F[two](y), parts.at[two], "norm")
    return x


@pytest.mark.parametrize("kind", ["layer", "rms", "none"])
def test_it_is_its_equation(kind):
    assert_agrees(B2T(norm=kind), equation)


def test_in_a_layer_of_three_the_bottom_skips_to_the_third():
    sublayers = [nn.Linear(8, 8) for _ in range(6)]
    places = sites(6, 3, ("attention", "cross-attention", "feedforward"))
    x = torch.randn(2, 5, 8)
    out = Stack(B2T(), sublayers, 8, places)(x)
    normed = nn.LayerNorm(8)
    for f1, f2, f3 in (sublayers[:3], sublayers[3:]):
        y = normed(x + f1(x))
        z = normed(y + f2(y))
        x = normed(x + z + f3(z))
    torch.testing.assert_close(out, x)


class Noise(nn.Module):
    """A sublayer that writes unit noise and sends no gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.randn_like(x)


def skip_gain(scheme, depth: int) -> float:
    torch.manual_seed(0)
    stack = Stack(scheme, [Noise() for _ in range(depth)], 256)
    x = torch.randn(64, 256, requires_grad=True)
    weights = torch.randn(64, 256)
    (stack(x) * weights).sum().backward()
    return float(x.grad.norm() / weights.norm())


def test_the_skips_carry_more_of_the_gradient_than_those_of_post_norm():
    # With unit updates the last norm divides by sqrt(Var[x + y + F]) = sqrt(3 + 2 / sqrt 2) = 2.10 and the gradient
    # is 1 + 1 / sqrt 2 = 1.71 before it: 0.813 a layer, where Post-LN has 0.5. 10 % for four layers' noise.
    assert skip_gain(B2T(), 8) == pytest.approx(0.813**4, rel=0.1)
    assert skip_gain(PostNorm(), 8) == pytest.approx(0.5**4, rel=0.1)


def test_layers_of_a_single_sublayer_are_refused():
    with pytest.raises(UserError, match="arrangement='sequential'"):
        Transformer(B2T(), vocab_size=11, d_model=8, num_heads=2, num_layers=2, arrangement="composed")


def test_an_encoder_decoder_runs():
    model = EncoderDecoder(B2T(), vocab_size=11, d_model=8, num_heads=2, num_layers=2)
    assert model(tokens(), tokens()).isfinite().all()


@pytest.mark.parametrize("num_layers", [1, 4])
def test_all_matrices_start_smaller_by_the_root_of_the_depth_also_after_a_fresh_initialisation(num_layers):
    size = {"d_model": 16, "num_heads": 2, "activation": "swiglu", "num_layers": num_layers}
    model, yardstick = small(B2T(), **size), small(PostNorm(), **size)
    model.initialise_(4), yardstick.initialise_(4)
    found = initial_factors(model, yardstick)
    assert found.keys() == {"q_proj", "k_proj", "v_proj", "o_proj", "fc1", "gate", "fc2"}
    assert list(found.values()) == [pytest.approx(num_layers**-0.5)] * 7


def test_each_stack_of_an_encoder_decoder_takes_its_own_depth():
    shape = {"vocab_size": 11, "d_model": 16, "num_heads": 2, "num_layers": 2, "encoder_layers": 9}
    model, yardstick = EncoderDecoder(B2T(), **shape), EncoderDecoder(PostNorm(), **shape)
    for side, layers in (("encoder", 9), ("decoder", 2)):
        found = initial_factors(getattr(model, side), getattr(yardstick, side))
        assert list(found.values()) == [pytest.approx(layers**-0.5)] * 6


def test_a_sublayer_at_several_sites_is_scaled_once():
    one, other = real_sublayers(1), real_sublayers(1)
    before = [sublayer.fc1.weight.detach().clone() for sublayer in (one[1], other[1])]
    Stack(B2T(), [*one, *one, *one, *other], 12)
    for sublayer, weight in zip((one[1], other[1]), before, strict=True):
        torch.testing.assert_close(sublayer.fc1.weight.detach(), 0.5 * weight)
