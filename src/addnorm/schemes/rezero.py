"""ReZero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from addnorm.errors import unknown
from addnorm.layers.norm import NormKind, make_norm
from addnorm.residual import Connection, Exit, Scheme, Site, State
from addnorm.schemes._carried import Gated

if TYPE_CHECKING:
    from jaxtyping import Float

Share = Literal["layer", "sublayer"]


class ReZeroConnection(Connection):
    """`x + gate * F(norm(x))`, the gate a scalar that starts at zero.

    Args:
        d_model: the width.
        norm: of what the sublayer reads.
        owns: whether it has a gate; else it takes that of the connection before.
        hands_on: whether the next connection takes the gate.
    """

    def __init__(self, d_model: int, norm: NormKind, *, owns: bool = True, hands_on: bool = False) -> None:
        super().__init__()
        self.norm, self.hands_on = make_norm(norm, d_model), hands_on
        # One element, not a scalar tensor: FSDP2 cannot shard those.
        self.gate = nn.Parameter(torch.zeros(1)) if owns else None

    def reset_parameters(self) -> None:
        """A closed gate."""
        if self.gate is not None:
            nn.init.zeros_(self.gate)

    def read(self, state: State) -> tuple[Float[Tensor, "*tokens d_model"], Gated]:
        """The stream, normalised if there is a norm; stream and gate are the skip, and the state within a layer."""
        if self.gate is None:
            return self.norm(state.stream), state
        return self.norm(state), Gated(state, self.gate.expand(*state.shape[:-1], 1))

    def write(self, skip: Gated, update: Tensor) -> State:
        """Add through the gate."""
        x = skip.stream + skip.gate * update
        return skip._replace(stream=x) if self.hands_on else x


class ReZeroExit(Exit):
    """The stream, without the gate of a layer that is not over."""

    def collapse(self, state: State) -> Tensor:
        """The stream."""
        return state if isinstance(state, Tensor) else state.stream


@dataclass(frozen=True, kw_only=True)
class ReZero(Scheme):
    """ReZero: add the sublayers' outputs through a learned scalar a layer that starts at zero; no norm.

        x <- x + a_l * F(x)  for each sublayer F of layer l,  a_l = 0 at initialisation;    hidden = x

    The stack starts as the identity: at the first step only the gates move. With a `norm` it is
    `x <- x + a_l * F(n(x)); hidden = n(x)`.

    Reference: Bachlechner et al. 2020, arXiv:2003.04887; De and Smith 2020, arXiv:2002.10444 (SkipInit).
    Cost: one parameter a layer; residual traffic 3d a token and sublayer, state d + 1 within a layer.

    Args:
        gate: one scalar a "layer", which its sublayers share, as the authors have it; or one a "sublayer", as SkipInit
            has one a branch.
    """

    norm: NormKind = "none"
    gate: Share = "layer"

    diagram: ClassVar[str] = "fork sublayer scale:a add"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gate not in get_args(Share):
            raise unknown("gate", str(self.gate), get_args(Share))

    def connection(self, d_model: int, site: Site) -> Connection:
        """One scalar gate, which the first sublayer of a layer holds."""
        if self.gate == "sublayer":
            return ReZeroConnection(d_model, self.norm)
        return ReZeroConnection(d_model, self.norm, owns=site.opens_layer, hands_on=not site.closes_layer)

    def exit(self, d_model: int) -> Exit:
        """The stream, then the final norm if there is a norm."""
        return ReZeroExit(d_model, self.norm)
