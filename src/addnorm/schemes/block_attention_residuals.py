"""Attention residuals over blocks of sublayers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from addnorm.checks import check_at_least, check_count
from addnorm.residual import Connection, Exit, Scheme, Site
from addnorm.schemes._depth_history import HistoryConnection, HistoryEntrance, HistoryExit
from addnorm.schemes.pre_norm import PreNorm


@dataclass(frozen=True, kw_only=True)
class BlockAttentionResiduals(Scheme):
    """Block AttnRes: each sublayer reads a softmax mixture of the embedding and the sums of blocks of sublayers.

        y_i = F_i(n(sum_j a_ij b_j)),  b_0 = embedding,  b_k = sum of the y_i of block k
        a_ij = softmax_j(w_i . RMSNorm(b_j));    hidden = n(sum_j a_j b_j), with a query of its own

    A block's own sum is read as far as it has come, by its first sublayer not at all. One block is a standard residual
    connection beside an isolated embedding; as many blocks as sublayers is full AttnRes. The queries start at zero, as
    there.

    Reference: Kimi Team 2026, arXiv:2603.15031.
    Cost: 2d to 3d parameters a sublayer (norm and query); the mixture takes about 4(B + 2)d multiplications a token
    at most, and B + 1 vectors a token are kept, for B blocks.
    Deviation: the eps of a norm that reads m sources is divided by m^2, as in the full form.

    Args:
        num_blocks: how many blocks the sublayers are divided into, each of `ceil(depth / num_blocks)` sublayers; the
            last may be shorter.
        eps: added to the mean square of a key.
    """

    num_blocks: int = 8
    eps: float = 1e-6

    diagram: ClassVar[str] = "history mix:softmax box:n sublayer add"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("num_blocks", self.num_blocks)
        check_at_least("eps", self.eps, 0)

    def entrance(self, d_model: int) -> nn.Module:
        """The embedding is the first source."""
        return HistoryEntrance()

    def connection(self, d_model: int, site: Site) -> Connection:
        """A query and a norm; the first of a block opens it."""
        size = -(-site.depth // self.num_blocks)
        opens, reads = site.index % size == 0, 1 - (-site.index // size)
        return HistoryConnection(d_model, self.norm, self.eps, reads=reads, appends=opens)

    def exit(self, d_model: int) -> Exit:
        """The mixture of all blocks, then the final norm."""
        return HistoryExit(d_model, self.norm, self.eps)

    def starts_as(self) -> Scheme | None:
        """Pre-LN, where a norm takes away the count that the sum is divided by."""
        return PreNorm(norm=self.norm) if self.norm in ("layer", "rms") else None
