"""Pre-and-post norm, and the single skip around a composed sublayer."""

from __future__ import annotations

import pytest
from torch import Tensor

from addnorm import Transformer, UserError
from addnorm.layers.context import Context
from addnorm.schemes.pre_post_norm import PrePostNorm
from addnorm.testing.small_models import embedded, noise_like, tokens
from transcription import Parameters, Parts, assert_agrees, composed_sublayers, norm


@pytest.mark.parametrize("kind", ["layer", "rms", "none"])
@pytest.mark.parametrize("alpha", [1.0, 2.5])
def test_it_is_its_equation(kind, alpha):
    def equation(parts: Parts) -> Tensor:
        x = parts.x
        for F, p in zip(parts.F, parts.at, strict=True):
            x = norm(alpha * x + F(norm(x, p, "pre_norm")), p, "post_norm")
        return x

    assert_agrees(PrePostNorm(norm=kind, alpha=alpha), equation)


def single_skip(parts: Parts) -> Tensor:
    x = parts.x
    for F, p in zip(parts.F, parts.at, strict=True):
        x = norm(x + F(norm(x, p, "pre_norm")), p, "post_norm")
    return x


def test_one_skip_around_feedforward_of_attention():
    assert_agrees(PrePostNorm(), single_skip, composed_sublayers(2))


def test_a_composed_model_is_the_norm_of_the_input_plus_feedforward_of_attention():
    size = {"vocab_size": 11, "d_model": 16, "num_heads": 2, "num_layers": 1}
    model = Transformer(PrePostNorm(), arrangement="composed", **size).double()
    for parameter in model.parameters():
        parameter.data.add_(0.2 * noise_like(parameter))
    x, context = embedded(model, tokens()), Context(causal=True)
    block = model.stack.blocks[0]
    attention, feedforward = block.sublayer.sublayers
    p = Parameters(block.connection, "layer")
    z = norm(x + feedforward(attention(norm(x, p, "pre_norm"), context)), p, "post_norm")
    assert len(model.stack.blocks) == 1
    # 1e-12: float64, the same sums in another order.
    assert (model.stack(x, context) - z).abs().max() < 1e-12


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("inf"), float("nan"), True, "2"])
def test_alpha_must_be_a_positive_number(alpha):
    with pytest.raises(UserError, match=f"alpha={alpha} is not allowed; use a finite number above 0"):
        PrePostNorm(alpha=alpha)
