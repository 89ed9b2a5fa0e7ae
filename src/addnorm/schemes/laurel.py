"""LAuReL: learned augmented residual layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from addnorm.checks import check_at_least, check_count
from addnorm.errors import UserError, unknown
from addnorm.kernels.precision import uncast, wide
from addnorm.layers.norm import NormKind, make_norm
from addnorm.residual import Connection, Exit, Scheme, Site
from addnorm.schemes._weighted_sum import weighted_sum
from addnorm.schemes.pre_norm import PreNorm

if TYPE_CHECKING:
    from jaxtyping import Float

Weights = Literal["softmax", "none"]


class Recent(NamedTuple):
    """The stream, and what it was before, the newest first."""

    stream: Float[Tensor, "*tokens d_model"]
    earlier: tuple[Float[Tensor, "*tokens d_model"], ...] = ()


class LaurelEntrance(nn.Module):
    """The embedding is the only state so far."""

    def forward(self, embedding: Float[Tensor, "*tokens d_model"]) -> Recent:
        """The first state."""
        return Recent(embedding)


class LowRank(nn.Module):
    """`B A sum_j gamma_j x_j`.

    Args:
        d_model: the width.
        rank: rows of A.
        states: how many x_j there are; a single one has no gamma.
    """

    def __init__(self, d_model: int, rank: int, states: int) -> None:
        super().__init__()
        rank = min(rank, d_model)
        self.down = nn.Parameter(torch.empty(rank, d_model))
        self.up = nn.Parameter(torch.empty(d_model, rank))
        self.gamma = nn.Parameter(torch.empty(states)) if states > 1 else None
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """B is zero; each row of A takes every r-th feature, so that the rows are orthogonal; the newest x counts."""
        rank, width = self.down.shape
        feature = torch.arange(width, device=self.down.device)
        self.down.zero_()
        self.down[feature % rank, feature] = (rank * width) ** -0.5
        self.up.zero_()
        if self.gamma is not None:
            self.gamma.zero_()
            self.gamma[0] = 1.0

    def forward(self, state: Recent) -> Float[Tensor, "*tokens d_model"]:
        """The product."""
        x = state.stream
        if self.gamma is not None:
            x = weighted_sum(self.gamma.unbind(), (x, *state.earlier)[: len(self.gamma)])
        with uncast(x):
            return F.linear(F.linear(wide(x), wide(self.down)), wide(self.up)).to(x.dtype)


class LaurelConnection(Connection):
    """`alpha * F(norm(x)) + beta * (x + low_rank(x, earlier x))`.

    Args:
        d_model: the width.
        norm: of what the sublayer reads.
        weighted: whether alpha and beta are learned; else they are one.
        low_rank: the product, if there is one.
        keeps: how many states the next connection is given.
    """

    def __init__(self, d_model: int, norm: NormKind, *, weighted: bool, low_rank: LowRank | None, keeps: int) -> None:
        super().__init__()
        self.norm = make_norm(norm, d_model)
        self.logits = nn.Parameter(torch.zeros(2)) if weighted else None
        self.low_rank, self.keeps = low_rank, keeps

    def reset_parameters(self) -> None:
        """Update and skip count the same."""
        if self.logits is not None:
            nn.init.zeros_(self.logits)

    def read(self, state: Recent) -> tuple[Float[Tensor, "*tokens d_model"], Recent]:
        """The normalised stream; all states are the skip."""
        return self.norm(state.stream), state

    def write(self, skip: Recent, update: Tensor) -> Recent:
        """Augment the skip, then take the weighted sum."""
        x = skip.stream if self.low_rank is None else skip.stream + self.low_rank(skip)
        if self.logits is None:
            x = update + x
        else:
            # Of one element each, not scalar tensors: those would be multiplied in the update's precision, and what the
            # logits learn from is the small difference of two gradients.
            alpha, beta = (2 * self.logits.softmax(0)).split(1)
            x = alpha * update + beta * x
        return Recent(x, (skip.stream, *skip.earlier)[: self.keeps - 1])


class NewestExit(Exit):
    """The stream, without what it was before."""

    def collapse(self, state: Recent) -> Tensor:
        """The stream."""
        return state[0]


@dataclass(frozen=True, kw_only=True)
class Laurel(Scheme):
    """LAuReL: Pre-LN whose sum is weighted, and whose skip gets a low-rank linear map of earlier states added to it.

        x_{i+1} = alpha * F(n(x_i)) + beta * (x_i + B A sum_{j<k} gamma_j x_{i-j});    hidden = n(x)

    The paper's variants: RW is `rank=0`, LR `weights=none`, RW+LR, the default, what the authors recommend; PA has
    `previous` k above 1 (k = 3 in the paper). A: r x d, B: d x r. Initially alpha = beta = 1, B = 0,
    `A_ji = 1 / sqrt(r d)` where j = i mod r and 0 elsewhere, gamma = (1, 0, 0 ...): Pre-LN.

    Reference: Menghani et al. 2024, arXiv:2411.07501.
    Cost: d to 2d parameters a sublayer (the norm), 2rd + k + 2 for the skip; 4rd multiplications a token and sublayer;
    residual traffic (k + 4)d and state kd.
    Deviation: the paper says that alpha and beta must be bounded, by softmax or sigmoid, and not by which or from
    where; here they are twice a softmax of two logits that start at zero. In its combination of all three variants
    each earlier state has a map of its own; here they share one, as in its equation for PA alone.

    Args:
        weights: "softmax" learns alpha and beta, "none" leaves them at one.
        rank: r; 0 leaves the map out, and a rank above the width is the width. The paper finds 32 to 64 good.
        previous: k, how many states the map sees, the newest included.
    """

    weights: Weights = "softmax"
    rank: int = 32
    previous: int = 1

    diagram: ClassVar[str] = "fork skip:β(1+BA) box:n sublayer scale:α add"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("rank", self.rank, 0)
        check_count("previous", self.previous)
        if self.weights not in get_args(Weights):
            raise unknown("weights", str(self.weights), get_args(Weights))
        if self.previous > 1 and not self.rank:
            raise UserError(f"previous={self.previous} states are read by the low-rank map; give it rank=1 or more.")

    def entrance(self, d_model: int) -> nn.Module:
        """There are no earlier states."""
        return LaurelEntrance()

    def connection(self, d_model: int, site: Site) -> Connection:
        """One norm, the two weights and the map."""
        states = min(self.previous, site.index + 1)
        low_rank = LowRank(d_model, self.rank, states) if self.rank else None
        weighted = self.weights == "softmax"
        return LaurelConnection(d_model, self.norm, weighted=weighted, low_rank=low_rank, keeps=self.previous)

    def exit(self, d_model: int) -> Exit:
        """The stream, then the final norm."""
        return NewestExit(d_model, self.norm)

    def starts_as(self) -> Scheme | None:
        """Pre-LN: both weights are one, the map is zero."""
        return PreNorm(norm=self.norm)
