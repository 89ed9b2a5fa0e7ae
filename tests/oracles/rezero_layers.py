"""ReZero against its authors' package: `rezero.transformer.RZTXEncoderLayer`."""

from __future__ import annotations

from functools import partial

import torch
from rezero.transformer import RZTXEncoderLayer

from addnorm.layers.context import Context
from oracles.case import HEADS, INNER, WIDTH, Case, Layers, our_stack, padding, triangle, vectors
from oracles.ties import Pair, Tie, tied
from oracles.torch_layers import attention_ties


def build(activation: str, dtype: torch.dtype) -> Pair:
    """One layer."""
    ours = our_stack("rezero", dtype, Layers(layers=1, activation=activation))
    theirs = RZTXEncoderLayer(WIDTH, HEADS, INNER, dropout=0.0, activation=activation).to(dtype)
    attention, feedforward = ours.blocks

    def run_theirs(x: torch.Tensor) -> torch.Tensor:
        masks = {"src_mask": ~triangle(), "src_key_padding_mask": ~padding()}
        return theirs(x.transpose(0, 1), **masks).transpose(0, 1)  # theirs has the batch second

    return Pair(
        ours=ours,
        theirs=theirs,
        ties=attention_ties(attention.sublayer, theirs.self_attn)
        + tied(feedforward.sublayer.fc1, theirs.linear1)
        + tied(feedforward.sublayer.fc2, theirs.linear2)
        + [Tie(attention.connection.gate, theirs.resweight)],
        inputs=(vectors(dtype),),
        run_ours=lambda x: ours(x, Context(causal=True, keep=padding())),
        run_theirs=run_theirs,
    )


CASES = [
    Case(
        scheme="rezero",
        oracle="rezero 0.1.0",
        what=f"1 layer, {activation}, causal mask and padding",
        build=partial(build, activation),
    )
    for activation in ("relu", "gelu")
]
