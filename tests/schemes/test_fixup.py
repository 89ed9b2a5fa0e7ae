"""T-Fixup and Fixup: their equations, and the initial values that stand in for norms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from addnorm import Encoder, EncoderDecoder, Scheme, Transformer
from addnorm.schemes.fixup import Fixup
from addnorm.schemes.pre_norm import PreNorm
from addnorm.schemes.t_fixup import TFixup
from addnorm.testing.small_models import small, tokens
from transcription import Parts, assert_agrees

SHAPE = {"vocab_size": 11, "d_model": 16, "num_heads": 2, "num_layers": 3}


def t_fixup(parts: Parts) -> Tensor:
    x = parts.x / 18**0.25  # a stack of two layers
    for F in parts.F:
        x = x + F(x)
    return x


def fixup(parts: Parts) -> Tensor:
    x = parts.x
    for F, p in zip(parts.F, parts.at, strict=True):
        x = x + p["scale"] * F(x + p["before"]) + p["after"]
    return x


@pytest.mark.parametrize(("scheme", "equation"), [(TFixup(), t_fixup), (Fixup(), fixup)])
def test_it_is_its_equation(scheme, equation):
    assert_agrees(scheme, equation)


def factors(model: torch.nn.Module, plain: torch.nn.Module) -> dict[str, float]:
    """What each weight of a sublayer is, relative to the one drawn."""
    drawn = dict(plain.named_parameters())
    return {
        name: float((weight.detach() / drawn[name].detach()).mean())
        for name, weight in model.named_parameters()
        if ".sublayer." in name and name.endswith("weight")
    }


def pair(body: type, scheme: Scheme, **shape) -> dict[str, float]:
    return factors(*(body(one, **SHAPE, **shape) for one in (scheme, PreNorm())))


def expected(name: str, value_path: float) -> float:
    return 1.0 if "q_proj" in name or "k_proj" in name else value_path


def test_decoder_and_encoder_alone_have_their_factors():
    for body, factor in ((Transformer, 27**-0.25), (Encoder, 0.67 * 3**-0.25)):
        for name, found in pair(body, TFixup()).items():
            assert found == pytest.approx(expected(name, factor)), name


def test_an_encoder_decoder_has_the_factors_of_the_paper():
    found = pair(EncoderDecoder, TFixup(), encoder_layers=5)
    assert any("encoder.blocks.9" in name for name in found)
    for name, factor in found.items():
        assert factor == pytest.approx(expected(name, 27**-0.25 if "decoder." in name else 0.67 * 5**-0.25)), name
    model = EncoderDecoder(TFixup(), **SHAPE, encoder_layers=5)
    for stack, layers in ((model.encoder, 5), (model.decoder, 3)):
        scales = [block.connection.factor for block in stack.blocks]
        # Each embedding takes the depth of its own side, as in the authors' code.
        assert scales == [pytest.approx((9 * layers) ** -0.25)] + [1.0] * (len(scales) - 1)


def test_fixup_scales_by_the_number_of_sublayers_and_closes_the_output():
    for name, factor in pair(Transformer, Fixup()).items():
        last = "o_proj" in name or "fc2" in name
        assert factor == pytest.approx(0.0 if last else expected(name, 6**-0.5)), name


def test_fixup_takes_the_root_by_the_weights_of_the_path():
    composed = pair(Transformer, Fixup(), arrangement="composed")
    for name, factor in composed.items():
        # One path of four weights under each of three connections.
        assert factor == pytest.approx(0.0 if "fc2" in name else expected(name, 3 ** (-1 / 6))), name


def test_fixup_starts_as_the_identity():
    model = small(Fixup())
    x = torch.randn(2, 5, 16)
    assert torch.equal(model.stack(x), x)


def test_without_norms_the_stream_keeps_its_size_in_a_deep_stack():
    for scheme in (TFixup(), Fixup()):
        model = small(scheme, num_layers=48)
        embedding = model.embedding(tokens(), torch.arange(6))
        ratio = float((model.stack(embedding).std() / embedding.std()).detach())
        assert 0.05 < ratio < 2.0, scheme
    # The same sum with Glorot's own values is far off; the bound above can fail.
    assert float(small(PreNorm(norm="none"), num_layers=48)(tokens()).detach().std()) > 1e3
