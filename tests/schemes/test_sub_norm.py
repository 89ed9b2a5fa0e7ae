"""SubLN: its equation, and its initial weights in every kind of stack."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from addnorm import EncoderDecoder, Transformer, schemes
from addnorm.schemes.sub_norm import SubNorm
from addnorm.testing.small_models import initial_factors
from inside_transcription import Net, assert_inside_agrees, attention, feedforward
from transcription import norm

SHAPE = {"vocab_size": 11, "d_model": 16, "num_heads": 4}


def equation(kind: str):
    def compute(net: Net) -> Tensor:
        x = net.x
        for layer in net.layers:
            p, q = layer.attention, layer.feedforward
            read = norm(x, layer.attention_connection, "norm", kind)
            x = x + attention(read, p, joined=lambda y, p=p: norm(y, p, "inside.joined.norm", kind))
            read = norm(x, layer.feedforward_connection, "norm", kind)
            x = x + feedforward(read, q, activated=lambda y, q=q: norm(y, q, "inside.activated.norm", kind))
        return norm(x, net.exit, "norm", kind)

    return compute


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_it_is_its_equation(kind):
    assert_inside_agrees(SubNorm(norm=kind), equation(kind))


def test_the_value_path_of_one_stack_starts_larger_and_queries_and_keys_do_not():
    factors = initial_factors(*(Transformer(scheme, num_layers=6, **SHAPE) for scheme in _with_yardstick()))
    # 1e-6: float32.
    gain = math.sqrt(math.log(12))
    assert factors == pytest.approx(
        {"q_proj": 1, "k_proj": 1, "v_proj": gain, "o_proj": gain, "fc1": gain, "fc2": gain}, rel=1e-6
    )


def test_encoder_and_decoder_have_gains_of_their_own_and_cross_attention_none():
    ours, yardstick = (EncoderDecoder(s, num_layers=3, encoder_layers=5, **SHAPE) for s in _with_yardstick())
    # 1e-6: float32.
    assert initial_factors(ours.encoder, yardstick.encoder)["fc1"] == pytest.approx(
        math.sqrt(math.log(9) * math.log(10) / 3), rel=1e-6
    )
    for site, (block, other) in enumerate(zip(ours.decoder.blocks, yardstick.decoder.blocks, strict=True)):
        kind = ours.decoder.sites[site].kind
        gain = 1.0 if kind == "cross-attention" else math.sqrt(math.log(9))
        for linear, fresh in zip(block.sublayer.value_paths()[0], other.sublayer.value_paths()[0], strict=True):
            torch.testing.assert_close(linear.weight, gain * fresh.weight)
        assert ("joined" in block.sublayer.inside) == (kind == "attention")


def _with_yardstick():
    return SubNorm(), schemes.get("pre-norm")()
