"""The sublayers and sites of a body, in the order and arrangement that its config asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from addnorm.config import Shape
from addnorm.layers.arrange import Composed, Parallel
from addnorm.layers.attention import Attention, AttentionOptions, CrossAttention
from addnorm.layers.feedforward import FeedForward
from addnorm.layers.inside import Inside
from addnorm.residual import Kind, Scheme, Side, Site
from addnorm.stack import Stack, sites

SublayerRecipe = tuple[Kind, Callable[[Inside], nn.Module]]
"""What a sublayer is, and how it is built with what a scheme asks for within it."""
ARRANGED: dict[str, type[Parallel] | type[Composed]] = {"parallel": Parallel, "composed": Composed}


def build_stack(scheme: Scheme, config: Shape, side: Side, other_layers: int = 0) -> Stack:
    """The stack of one side of a Transformer.

    Args:
        scheme: the residual scheme.
        config: the shape.
        side: which side; the decoder of an encoder-decoder has cross-attention too.
        other_layers: layers of the other side; 0 for a lone stack.
    """

    def itself(inside: Inside) -> nn.Module:
        return Attention(config.d_model, config.num_heads, attention_options(config, inside))

    def other(inside: Inside) -> nn.Module:
        options = attention_options(config, inside, rotary=False, full=config.attention != "plain")
        return CrossAttention(config.d_model, config.num_heads, options)

    crossed: list[SublayerRecipe] = [("cross-attention", other)] if side == "decoder" and other_layers > 0 else []
    layer: list[SublayerRecipe] = [("attention", itself), *crossed, feedforward(config)]
    return stack_of(scheme, config, layer, side=side, other_layers=other_layers)


def stack_of(
    scheme: Scheme, config: Shape, layer: Sequence[SublayerRecipe], *, side: Side = "decoder", other_layers: int = 0
) -> Stack:
    """A stack of as many layers as the shape says.

    Args:
        scheme: the residual scheme.
        config: the shape; `arrangement` says how the sublayers of a layer share connections.
        layer: the sublayers of a layer, in order.
        side, other_layers: as in `Site`.
    """
    arrange = ARRANGED.get(config.arrangement)
    kinds: list[Kind] = [config.arrangement] if arrange else [kind for kind, _ in layer]  # type: ignore[list-item]

    def sublayer(site: Site) -> nn.Module:
        inside = scheme.inside(site)
        if arrange:
            return arrange([build(inside) for _, build in layer])
        return layer[site.index % len(layer)][1](inside)

    places = sites(config.num_layers * len(kinds), len(kinds), kinds, side=side, other_layers=other_layers)
    return Stack(scheme, map(sublayer, places), config.d_model, places, calibration="later")  # by the body


def feedforward(config: Shape) -> SublayerRecipe:
    """The feed-forward of a shape."""
    size = (config.d_model, config.d_ff, config.activation, config.bias, config.dropout)
    return "feedforward", lambda inside: FeedForward(*size, inside)


def attention_options(config: Shape, inside: Inside, *, rotary: bool = True, full: bool = False) -> AttentionOptions:
    """The options of an attention.

    Args:
        config: the shape.
        inside: what the scheme asks for within it.
        rotary: whether its queries and keys have places of the line that rotary positions count.
        full: whether it stays full whatever kernel the shape asks for.
    """
    return AttentionOptions(
        num_kv_heads=config.num_kv_heads,
        bias=config.bias,
        qk_norm=config.qk_norm,
        rotary=config.position == "rotary" and rotary,
        rotary_base=config.rotary_base,
        dropout=config.attention_dropout,
        output_dropout=config.dropout,
        kernel="fused" if full else config.attention,
        window=None if full else config.window,
        inside=inside,
    )
