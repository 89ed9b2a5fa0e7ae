"""What a scheme asks of the inside of sublayers: parts of its own at named places in attention and feed-forward.

    q, k, v = query(W_q x), key(W_k x), value(W_v x);    q, k = turned(R q), turned(R k)  after rotary positions
    attention = W_o joined(concatenate_h heads(softmax(scores(q k^T / sqrt(d_head)) + mask) v))
    feed-forward = W_2 activated(act(inner(W_1 x)));    SwiGLU: W_2 activated(silu(gate(W_g x)) * inner(W_1 x))

Linear attention has phi between `turned`, which then comes first, and the positions, and has no `scores`.
Where a scheme asks for nothing, the place is the identity and costs nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import MutableMapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, TypeAlias

from torch import Tensor, nn

from addnorm.layers.norm import NormKind, make_norm

if TYPE_CHECKING:
    from jaxtyping import Float

Passed: TypeAlias = MutableMapping[str, Tensor]
"""What earlier attentions of this forward have left for later ones, by name."""


@dataclass(frozen=True, kw_only=True)
class PlaceShape:
    """The tensors at a place: `(batch, heads, tokens, width)`, or `(*tokens, width)` where heads is 0.

    Args:
        heads: of the tensor; of the scores, the queries' heads.
        width: the last dimension; of the scores, which have none of their own, a head's width.
        d_model: of the stack.
    """

    heads: int
    width: int
    d_model: int


class Part(ABC):
    """What stands at one place inside a sublayer: a frozen dataclass that builds a module.

    The module is called with the tensor at its place and with what is passed between attentions (nothing in a
    feed-forward), `forward(x, passed)`, and returns the tensor that goes on. Learned numbers are drawn or filled as
    everywhere: by `reset_parameters()`.
    """

    @abstractmethod
    def build(self, shape: PlaceShape) -> nn.Module:
        """The module of one place."""

    @property
    def gives(self) -> frozenset[str]:
        """The names that it leaves for later attentions."""
        return frozenset()

    @property
    def takes(self) -> frozenset[str]:
        """The names that an earlier attention must have left."""
        return frozenset()


@dataclass(frozen=True, kw_only=True)
class Inside:
    """The parts that a scheme asks for in the sublayers of a site; None is the identity.

    Args:
        query, key, value: each head's, as projected (after the layer's own QK-norm).
        turned: queries and keys after rotary positions; one module for both.
        scores: before the mask and the softmax; needs `attention="plain"`, the kernel that holds them.
        heads: each head's output.
        joined: all heads' outputs side by side, before the output projection.
        inner: the feed-forward's inner vector, before its activation.
        gate: what SwiGLU's silu is taken of.
        activated: what the feed-forward's output projection reads.
    """

    query: Part | None = None
    key: Part | None = None
    value: Part | None = None
    turned: Part | None = None
    scores: Part | None = None
    heads: Part | None = None
    joined: Part | None = None
    inner: Part | None = None
    gate: Part | None = None
    activated: Part | None = None

    def of_kind(self, kind: str) -> Inside:
        """What concerns a sublayer of a kind: attention, feed-forward, or (any other kind) both."""
        if kind in ("attention", "cross-attention"):
            return replace(self, **dict.fromkeys(_FEEDFORWARD))
        return replace(self, **dict.fromkeys(_ATTENTION)) if kind == "feedforward" else self

    @property
    def gives(self) -> frozenset[str]:
        """What its parts leave for later attentions."""
        return frozenset().union(*(part.gives for part in self._parts()))

    @property
    def takes(self) -> frozenset[str]:
        """What its parts need from earlier attentions."""
        return frozenset().union(*(part.takes for part in self._parts()))

    def _parts(self) -> list[Part]:
        found = [getattr(self, field.name) for field in fields(self)]
        return [part for part in found if part is not None]


_FEEDFORWARD = ("inner", "gate", "activated")
_ATTENTION = tuple(field.name for field in fields(Inside) if field.name not in _FEEDFORWARD)


class Parts(nn.ModuleDict):
    """The modules of one sublayer's parts; a scheme owns their parameters, as it owns those of a connection.

    Args:
        inside: what the scheme asks for.
        shapes: the sublayer's places; others are not its own.
    """

    def __init__(self, inside: Inside, shapes: dict[str, PlaceShape]) -> None:
        asked = {place: getattr(inside, place) for place in shapes}
        super().__init__({place: part.build(shapes[place]) for place, part in asked.items() if part is not None})
        self.places = frozenset(self)

    def at(self, place: str, x: Float[Tensor, "..."], passed: Passed) -> Float[Tensor, "..."]:
        """The tensor at a place, as the scheme wants it."""
        return self[place](x, passed) if place in self else x


@dataclass(frozen=True, kw_only=True)
class NormPart(Part):
    """A norm of the place's last dimension; its gain is shared by the heads."""

    norm: NormKind

    def build(self, shape: PlaceShape) -> nn.Module:
        """A norm of the width."""
        return _Normed(make_norm(self.norm, shape.width))


class _Normed(nn.Module):
    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor, passed: Passed) -> Tensor:
        return self.norm(x)
