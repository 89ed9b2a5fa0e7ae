"""Admin."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from addnorm.errors import UserError, unknown
from addnorm.layers.norm import NormKind, make_norm
from addnorm.residual import Connection, Exit, Profile, Scheme, Site
from addnorm.schemes.post_norm import PostNorm

if TYPE_CHECKING:
    from jaxtyping import Float

Growth = Literal["profile", "log", "constant", "linear"]


class AdminConnection(Connection):
    """`norm(omega * x + F(x))`, one omega a feature."""

    def __init__(self, d_model: int, norm: NormKind, omega: float) -> None:
        super().__init__()
        self.initial = omega
        self.norm = make_norm(norm, d_model)
        self.omega = nn.Parameter(torch.full((d_model,), omega))

    def reset_parameters(self) -> None:
        """All features alike; NaN where a calibration is still to come."""
        nn.init.constant_(self.omega, self.initial)

    def read(self, state: Float[Tensor, "*tokens d_model"]) -> tuple[Tensor, Tensor]:
        """The stream as it is, twice."""
        return state, state

    def write(self, skip: Tensor, update: Tensor) -> Tensor:
        """Add to the scaled skip, then normalise the sum."""
        if math.isnan(self.initial) and self._is_fresh():
            raise UserError(
                "admin(growth=profile) sets its omega from a batch and has seen none; call calibrate_(tokens) of the "
                "model (or calibrate_ of the Stack) first, or take growth=log, which needs no batch."
            )
        return self.norm(self.omega * skip + update)

    def _is_fresh(self) -> bool:
        # Not while compiling: the look at the values would break the graph.
        return not (torch.compiler.is_compiling() or self.omega.is_meta) and bool(self.omega.isnan().any())


@dataclass(frozen=True, kw_only=True)
class Admin(Scheme):
    """Admin: Post-LN with a learned factor on each feature of the skip, which starts large enough for a deep stack.

        x <- n(w * x + F(x)),  w in R^d;    hidden = x

    At initialisation sublayer i = 0, 1, 2 ... has `w_i = sqrt(1 + sum over j < i of Var[F_j])`, measured on one batch
    (`growth="profile"`; needs `calibrate_`), or one of the authors' closed forms for N sublayers, by how much the
    output may change with the depth in a step: `sqrt((N + 1) / ln(N + 1) - 1)` for O(log N), `sqrt(N)` for O(1), 1 for
    O(N).

    Reference: Liu et al. 2020, arXiv:2004.08249.
    Cost: 2d to 3d parameters a sublayer (the norm and w); residual traffic 3d a token and sublayer.
    Deviation: the authors' code adds up `w_i^2 Var[x_i] + Var[F_i]`, which is the formula above where x_i has variance
    one: after every norm, and for their embedding, but not for one that is smaller, whose factors would start below 1.
    The default is the closed form of their package admin-torch, not the profile.

    Args:
        growth: "log", "constant" or "linear" growth of the output's change with the depth, or "profile".
    """

    growth: Growth = "log"

    diagram: ClassVar[str] = "fork skip:w sublayer add box:n"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.growth not in get_args(Growth):
            raise unknown("growth", str(self.growth), get_args(Growth))

    @property
    def needs_calibration(self) -> bool:
        """In the profile form."""
        return self.growth == "profile"

    def connection(self, d_model: int, site: Site) -> Connection:
        """One norm and one factor a feature."""
        log = math.sqrt((site.depth + 1) / math.log(site.depth + 1) - 1)
        omega = {"profile": math.nan, "log": log, "constant": math.sqrt(site.depth), "linear": 1.0}[self.growth]
        return AdminConnection(d_model, self.norm, omega)

    def calibrate_(self, connection: Connection, profile: Profile) -> float:
        """Omega from the variance that has come together; returns it with this update's."""
        assert isinstance(connection, AdminConnection)
        variance = 1.0 if profile.before is None else profile.before
        nn.init.constant_(connection.omega, math.sqrt(variance))
        return variance + float(profile.update.var(correction=0))

    def starts_as(self) -> Scheme | None:
        """Post-LN when all factors start at one."""
        return PostNorm(norm=self.norm) if self.growth == "linear" else None

    def exit(self, d_model: int) -> Exit:
        """The stream is normalised already."""
        return Exit(d_model, "none")
