"""The sublayers and sites of a body, in the order and arrangement that its config asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import nn

from addnorm.config import ModelConfig
from addnorm.layers.arrange import Composed, Parallel
from addnorm.layers.attention import Attention, AttentionOptions, CrossAttention
from addnorm.layers.feedforward import FeedForward
from addnorm.layers.inside import Inside
from addnorm.residual import Kind, Scheme
from addnorm.stack import Stack, sites

ARRANGED: dict[str, type[Parallel] | type[Composed]] = {"parallel": Parallel, "composed": Composed}


def build_stack(
    scheme: Scheme,
    config: ModelConfig,
    side: Literal["encoder", "decoder"],
    other_layers: int = 0,
) -> Stack:
    """The stack of one side of a Transformer.

    Args:
        scheme: the residual scheme.
        config: the shape.
        side: which side; the decoder of an encoder-decoder has cross-attention too.
        other_layers: layers of the other side; 0 for a lone stack.
    """
    crossed = side == "decoder" and other_layers > 0
    kinds: Sequence[Kind] = ("attention", "cross-attention", "feedforward") if crossed else ("attention", "feedforward")
    arrange = ARRANGED.get(config.arrangement)
    at: Sequence[Kind] = (config.arrangement,) if config.arrangement != "sequential" else kinds
    places = sites(config.num_layers * len(at), len(at), at, side=side, other_layers=other_layers)
    sublayers: list[nn.Module] = []
    for place in places:
        inside = scheme.inside(place)
        if arrange:
            sublayers.append(arrange([_sublayer(kind, config, inside) for kind in kinds]))
        else:
            sublayers.append(_sublayer(place.kind, config, inside))
    return Stack(scheme, sublayers, config.d_model, places, calibration="later")  # by the body, from token ids


def _sublayer(kind: Kind, config: ModelConfig, inside: Inside) -> nn.Module:
    if kind == "feedforward":
        return FeedForward(config.d_model, config.d_ff, config.activation, config.bias, config.dropout, inside)
    full = kind == "cross-attention" and config.attention != "plain"
    options = AttentionOptions(
        num_kv_heads=config.num_kv_heads,
        bias=config.bias,
        qk_norm=config.qk_norm,
        rotary=config.position == "rotary" and kind == "attention",
        rotary_base=config.rotary_base,
        dropout=config.attention_dropout,
        output_dropout=config.dropout,
        kernel="fused" if full else config.attention,
        window=None if full else config.window,
        inside=inside,
    )
    attention = CrossAttention if kind == "cross-attention" else Attention
    return attention(config.d_model, config.num_heads, options)
