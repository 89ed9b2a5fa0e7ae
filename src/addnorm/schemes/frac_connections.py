"""Frac-connections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from addnorm.checks import check_at_least, check_count, check_positive
from addnorm.config import OptimizerRule
from addnorm.errors import UserError
from addnorm.kernels.precision import uncast, wide
from addnorm.layers.norm import make_norm
from addnorm.residual import Connection, Scheme, Site
from addnorm.schemes._streams import Mixed
from addnorm.schemes.pre_norm import PreNorm

if TYPE_CHECKING:
    from jaxtyping import Float


class FracConnection(Connection):
    """`A^T H + B^T F(n(Y^T H))` on the fractions `H` of one stream, with coefficients that depend on the token.

    `static` holds `[Y | A | B]` and `weight` the rows `W_Y, W_A, W_B`: a column and a row for each coefficient that a
    fraction has.
    """

    def __init__(self, d_model: int, scheme: FracConnections) -> None:
        super().__init__()
        self.fractions, self.initial_scale = scheme.fractions, scheme.scale
        self.norm = make_norm(scheme.norm, d_model)
        self.fraction_norm = make_norm("rms" if scheme.norm == "rms" else "layer", d_model // scheme.fractions)
        self.static = nn.Parameter(torch.empty(scheme.fractions, 2 * scheme.fractions + 1))
        self.weight = nn.Parameter(torch.empty(2 * scheme.fractions + 1, d_model // scheme.fractions))
        self.scale = nn.Parameter(torch.empty(2))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Each fraction is read, kept and written as it is."""
        identity = torch.eye(self.fractions)
        self.static.copy_(torch.cat((identity, identity, torch.ones(self.fractions, 1)), dim=1))
        self.weight.zero_()
        self.scale.fill_(self.initial_scale)

    def read(self, state: Float[Tensor, "*tokens d_model"]) -> tuple[Tensor, Mixed]:
        """`n(Y^T H)`; the skip is `A^T H` and `B`."""
        H = state.unflatten(-1, (self.fractions, -1))
        coefficients = self.coefficients(H)
        with uncast(state):
            mixed = coefficients[..., :-1].mT @ wide(H)  # Y^T H above A^T H
        read, kept = mixed.to(state.dtype).split(self.fractions, dim=-2)
        return self.norm(read.flatten(-2)), Mixed(kept, coefficients[..., -1])

    def write(self, skip: Mixed, update: Tensor) -> Tensor:
        """`A^T H + B^T y`, each fraction of the update for the same fraction of the stream."""
        kept, gains = skip
        fractions = wide(update).unflatten(-1, (self.fractions, -1))
        return torch.addcmul(wide(kept), gains.unsqueeze(-1), fractions).to(kept.dtype).flatten(-2)

    def coefficients(self, H: Float[Tensor, "*tokens m d_over_m"]) -> Float[Tensor, "*tokens m 2m_plus_1"]:
        """`[Y | A | B]` of each token: `static + s tanh(norm(H) W)`, in float32."""
        with uncast(H):
            logits = self._normed(H) @ wide(self.weight).mT
        s_alpha, s_beta = wide(self.scale)
        scale = torch.cat((s_alpha.expand(logits.shape[-1] - 1), s_beta.expand(1)))
        return wide(self.static) + scale * torch.tanh(logits)

    def _normed(self, H: Tensor) -> Tensor:
        """Each fraction normalised, in float32 whatever the parameters are."""
        if H.dtype == wide(H).dtype:
            return self.fraction_norm(H)
        parameters = {name: wide(p) for name, p in self.fraction_norm.named_parameters()}
        return functional_call(self.fraction_norm, parameters, (wide(H),))


@dataclass(frozen=True, kw_only=True)
class FracConnections(Scheme):
    """FC: hyper-connections among the parts of one stream, which is not made wider.

        H <- A^T H + B^T F(n(Y^T H)),  H in R^{m x d/m} the stream cut into m parts;    hidden = n(H)
        Y = I + s_a tanh(norm(H) W_Y),  A = I + s_a tanh(norm(H) W_A),  B = 1_m + s_b tanh(norm(H) W_B)

    The sublayer reads all m mixtures side by side, d numbers again, and part i of what it writes goes to part i of
    the stream. `I`, `1` and both `s` (0.01) are the initial values of learned parameters, every `W` starts at zero
    and decays: the whole starts as Pre-LN. `norm(H)` normalises each part; it is RMSNorm under `norm=rms`, else the
    paper's LayerNorm.

    Reference: Zhu et al. 2025, arXiv:2503.14125, equations 6 to 15.
    Cost: (d/m)(2m + 1) + m(2m + 1) + 2 parameters a sublayer beside two norms, of d and of d/m; 4md multiplications a
    token; residual traffic about 6d a token and sublayer, state d.

    Args:
        fractions: m, which must divide d_model.
        scale: initial value of both `s`.
    """

    fractions: int = 4
    scale: float = 0.01

    diagram: ClassVar[str] = "fork skip:A mix:Y box:n sublayer scale:B add"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("fractions", self.fractions)
        check_at_least("fractions", self.fractions, 2)
        check_positive("scale", self.scale)

    def connection(self, d_model: int, site: Site) -> Connection:
        """Two norms, the static coefficients, and the map to the dynamic ones.

        Raises:
            UserError: the fractions do not divide the width.
        """
        if d_model % self.fractions:
            fitting = [m for m in range(2, d_model + 1) if d_model % m == 0]
            nearest = sorted(sorted(fitting, key=lambda m: abs(m - self.fractions))[:2])
            raise UserError(
                f"fractions={self.fractions} does not divide d_model={d_model}; use {' or '.join(map(str, nearest))}."
            )
        return FracConnection(d_model, self)

    def starts_as(self) -> Scheme | None:
        """Pre-LN: every part is read, kept and written as it is."""
        return PreNorm(norm=self.norm)

    def optimizer_rule(self, site: Site | None, own: str | None = None) -> OptimizerRule:
        """The map to the dynamic coefficients decays, as in the paper."""
        return OptimizerRule(decays=own == "weight")
