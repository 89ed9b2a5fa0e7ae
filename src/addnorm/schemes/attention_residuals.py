"""Attention residuals over every earlier sublayer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from addnorm.checks import check_at_least
from addnorm.residual import Connection, Exit, Scheme, Site
from addnorm.schemes._depth_history import HistoryConnection, HistoryEntrance, HistoryExit
from addnorm.schemes.pre_norm import PreNorm


@dataclass(frozen=True, kw_only=True)
class AttentionResiduals(Scheme):
    """Full AttnRes: each sublayer reads a softmax mixture of the embedding and all earlier sublayers' outputs.

        y_i = F_i(n(sum_{j<=i} a_ij v_j)),  v_0 = embedding,  v_{i+1} = y_i
        a_ij = softmax_j(w_i . RMSNorm(v_j));    hidden = n(sum_j a_j v_j), with a query of its own

    The queries `w_i` start at zero: all weights are equal, the mixture is the sum over its count, and the norm
    takes the count away. The keys' norm has no gain, because it would appear only multiplied with the query. The
    first sublayer has one source and no query.

    Reference: Kimi Team 2026, arXiv:2603.15031.
    Cost: 2d to 3d parameters a sublayer (norm and query); the mixture takes about 4(i + 1)d multiplications a token
    at sublayer i, and i + 1 vectors a token are kept, so that time and memory grow with the square and with depth.
    Deviation: the eps of a norm that reads m sources is 1e-5 / m^2, the 1e-5 of Pre-LN beside their sum. With one eps
    for all, streams of RMS 0.02, usual at initialisation, do not start as Pre-LN: at 24 layers the hidden vectors are
    off by 0.67.

    Args:
        eps: added to the mean square of a key.
    """

    eps: float = 1e-6

    diagram: ClassVar[str] = "history mix:softmax box:n sublayer"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("eps", self.eps, 0)

    def entrance(self, d_model: int) -> nn.Module:
        """The embedding is the first source."""
        return HistoryEntrance()

    def connection(self, d_model: int, site: Site) -> Connection:
        """A query and a norm."""
        return HistoryConnection(d_model, self.norm, self.eps, reads=site.index + 1, appends=True)

    def exit(self, d_model: int) -> Exit:
        """The mixture of all sources, then the final norm."""
        return HistoryExit(d_model, self.norm, self.eps)

    def starts_as(self) -> Scheme | None:
        """Pre-LN, where a norm takes away the count that the sum is divided by."""
        return PreNorm(norm=self.norm) if self.norm in ("layer", "rms") else None
