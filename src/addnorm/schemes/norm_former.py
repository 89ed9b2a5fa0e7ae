"""NormFormer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from addnorm.errors import UserError, unknown
from addnorm.layers.inside import Inside, NormPart, Part, Passed, PlaceShape
from addnorm.layers.norm import NormKind, make_norm
from addnorm.residual import Connection, Scheme, Site

if TYPE_CHECKING:
    from jaxtyping import Float

Skip = Literal["plain", "scaled"]


class HeadGain(nn.Module):
    """`gamma_h * head_h`."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(heads))

    def reset_parameters(self) -> None:
        """Gain one."""
        nn.init.ones_(self.gain)

    def forward(self, x: Float[Tensor, "batch heads tokens d_head"], passed: Passed) -> Tensor:
        """Each head times its gain."""
        return x * self.gain.to(x.dtype)[:, None, None]


@dataclass(frozen=True, kw_only=True)
class HeadGainPart(Part):
    """One learned factor a head."""

    def build(self, shape: PlaceShape) -> nn.Module:
        """The factors."""
        return HeadGain(shape.heads)


class NormFormerConnection(Connection):
    """`lambda * x + post(F(norm(x)))`, post a norm or nothing, lambda one factor a feature or nothing."""

    def __init__(self, d_model: int, norm: NormKind, *, post: bool, scaled: bool) -> None:
        super().__init__()
        self.input_norm = make_norm(norm, d_model)
        self.output_norm = make_norm(norm if post else "none", d_model)
        self.skip_gain = nn.Parameter(torch.ones(d_model)) if scaled else None

    def reset_parameters(self) -> None:
        """The skip is unscaled at first."""
        if self.skip_gain is not None:
            nn.init.ones_(self.skip_gain)

    def read(self, state: Float[Tensor, "*tokens d_model"]) -> tuple[Tensor, Tensor]:
        """The normalised stream; the stream itself is the skip."""
        return self.input_norm(state), state

    def write(self, skip: Tensor, update: Tensor) -> Tensor:
        """Normalise, add to the skip."""
        return (skip if self.skip_gain is None else self.skip_gain * skip) + self.output_norm(update)


@dataclass(frozen=True, kw_only=True)
class NormFormer(Scheme):
    """NormFormer: Pre-LN with a norm after attention, a gain on each head, and a norm inside the feed-forward.

        x <- x + n(W_o [gamma_h * head_h(n(x))]_h),  x <- lambda * x + W_2 n(act(W_1 n(x)));    hidden = n(x)

    Gamma has one entry a head, lambda one a feature; both start at one. Lambda is there with `skip="scaled"` only: the
    paper found it to help in small models, and x-transformers warns that it may be unstable.

    Reference: Shleifer et al. 2021, arXiv:2110.09456.
    Cost: beside Pre-LN a norm of width d and H factors an attention, a norm of width d_ff a feed-forward (and d factors
    with a scaled skip).

    Args:
        skip: "plain", or "scaled" by lambda at feed-forwards.
    """

    skip: Skip = "plain"

    diagram: ClassVar[str] = "fork box:n scale:γ sublayer box:n add"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.skip not in get_args(Skip):
            raise unknown("skip", str(self.skip), get_args(Skip))

    def connection(self, d_model: int, site: Site) -> Connection:
        """A norm of the update at attentions, the factors of the skip at other sublayers."""
        if site.kind in ("parallel", "composed"):
            raise UserError(
                f"norm-former treats attention and feed-forward differently and needs a connection for each; "
                f"use arrangement='sequential' instead of '{site.kind}'."
            )
        attends = site.kind in ("attention", "cross-attention")
        scaled = self.skip == "scaled" and not attends
        return NormFormerConnection(d_model, self.norm, post=attends, scaled=scaled)

    def inside(self, site: Site) -> Inside:
        """A gain a head, and a norm of what the feed-forward's output projection reads."""
        return Inside(heads=HeadGainPart(), activated=NormPart(norm=self.norm))
