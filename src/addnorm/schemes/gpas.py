"""Gradient-preserving activation scaling around any scheme."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from addnorm.errors import UserError, unknown
from addnorm.layers.around import AroundRecipe
from addnorm.residual import Connection, Scheme, Site, State
from addnorm.schemes._around import AroundConnection, AroundConnections

Place = Literal["sum", "skip"]


class GpasConnection(AroundConnection):
    """The inner connection, with the sum or the skip scaled in the forward pass only."""

    def __init__(self, inner: Connection, place: Place) -> None:
        super().__init__(inner)
        self.place = place
        # One element, not a scalar tensor: FSDP2 cannot shard those.
        self.gate = nn.Parameter(torch.zeros(1))

    def reset_parameters(self) -> None:
        """No scaling."""
        nn.init.zeros_(self.gate)

    def inner_skip(self, skip: State) -> State:
        """The skip, scaled if that is what is scaled."""
        if self.place == "sum":
            return skip
        if not isinstance(skip, Tensor):
            raise UserError("gpas(place=skip) scales a skip that is one tensor; take place=sum with this inner scheme.")
        return self._scale(skip)

    def write(self, skip: State, update: Tensor) -> State:
        """As the inner connection, before or after the scaling."""
        state = super().write(skip, update)
        return tree_map(self._scale, state) if self.place == "sum" else state

    def fused(self) -> AroundRecipe | None:
        """As the inner connection, with the sum scaled; there is none where the skip is."""
        return self.fused_with(outside=lambda _, state: tree_map(self._scale, state)) if self.place == "sum" else None

    def _scale(self, x: Tensor) -> Tensor:
        return x - F.silu(self.gate) * x.detach()


@dataclass(frozen=True, kw_only=True)
class Gpas(AroundConnections):
    """GPAS: after each sublayer the stream is scaled by a learned factor, but its gradient is not.

        x <- x - silu(g) * sg(x)  after the inner scheme's sum,  g = 0 at initialisation

    sg stops the gradient: forward x has the factor 1 - silu(g), backward the factor one. With an inner scheme that
    normalises the sum, as Post-LN, DeepNorm and KEEL do, this would be undone; there `place="skip"` scales the skip.

    Reference: Chen et al. 2025, arXiv:2506.22049.
    Cost: one parameter a sublayer and 2d residual traffic beside the inner scheme's.
    Deviation: the authors' code has one g for the two sublayers of a layer; here each sublayer has its own. They clip
    the gradient of g to 0.01 in large models; here it has no clipping of its own.

    Args:
        inner: the scheme that is wrapped.
        place: "sum" scales the stream after the sum, "skip" what is skipped before it.
    """

    place: Place = "sum"

    diagram: ClassVar[str] = "fork box:n sublayer add scale:1-silu(g)"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.place not in get_args(Place):
            raise unknown("place", str(self.place), get_args(Place))
        scaled = {"sum": f"{self.diagram} scale:1-silu(g)", "skip": f"fork skip:1-silu(g) {self.diagram[5:]}"}
        object.__setattr__(self, "diagram", scaled[self.place])

    @property
    def exact_gradient(self) -> bool:
        """The stream's gradient has not the factor that the stream has."""
        return False

    def around(self, inner: Connection, site: Site) -> AroundConnection:
        """With its gate."""
        return GpasConnection(inner, self.place)

    def starts_as(self) -> Scheme | None:
        """The inner scheme: all gates are zero."""
        return self.inner
