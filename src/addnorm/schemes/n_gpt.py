"""nGPT, the normalised Transformer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from addnorm.checks import check_positive
from addnorm.config import OptimizerRule
from addnorm.layers.inside import Inside, Part, Passed, PlaceShape
from addnorm.layers.norm import NormKind
from addnorm.residual import Connection, Exit, Scheme, Site

if TYPE_CHECKING:
    from jaxtyping import Float


def unit(x: Tensor, dim: int = -1) -> Tensor:
    """Vectors of length one; one shorter than 1e-12 has no direction and stays. In float32 for lower precisions.

    >>> unit(torch.tensor([3.0, 4.0]))
    tensor([0.6000, 0.8000])
    """
    wide = x.float() if x.dtype.itemsize < 4 else x
    length = torch.linalg.vector_norm(wide, dim=dim, keepdim=True)
    # Divided by a least length instead, a zero vector would have a slope of its inverse, and four in a row overflow.
    return (wide / torch.where(length > 1e-12, length, 1.0)).to(x.dtype)


class LearnedFactors(nn.Module):
    """Learned factors that start at `start` and are stored as `stored`, which sets how far an Adam step moves them.

    `factor = parameter * start / stored`

    Args:
        shape: of the factors.
        start: their initial value.
        stored: the parameter's initial value.
    """

    def __init__(self, shape: tuple[int, ...], start: float, stored: float) -> None:
        super().__init__()
        self.start, self.stored = start, stored
        self.parameter = nn.Parameter(torch.full(shape, stored))

    def reset_parameters(self) -> None:
        """All at the initial value."""
        nn.init.constant_(self.parameter, self.stored)

    def forward(self) -> Tensor:
        """The factors."""
        return self.parameter * (self.start / self.stored)


class UnitConnection(Connection):
    """`unit(x + |alpha| * (unit(F(x)) - x))`."""

    def __init__(self, d_model: int, alpha: float) -> None:
        super().__init__()
        self.alpha = LearnedFactors((d_model,), alpha, d_model**-0.5)

    def read(self, state: Float[Tensor, "*tokens d_model"]) -> tuple[Tensor, Tensor]:
        """The stream, twice."""
        return state, state

    def write(self, skip: Tensor, update: Tensor) -> Tensor:
        """A step from one point of the sphere towards another."""
        return unit(skip + self.alpha().abs().to(skip.dtype) * (unit(update) - skip))


class Unit(nn.Module):
    """`unit(x)`."""

    def forward(self, x: Float[Tensor, "*tokens d_model"]) -> Float[Tensor, "*tokens d_model"]:
        """Onto the sphere."""
        return unit(x)


class UnitHeads(nn.Module):
    """`s * sqrt(d_head) * unit(x)` of queries and of keys.

    Their product over `sqrt(d_head)` is `sqrt(d_head)` times a cosine, up to the factors s.
    """

    def __init__(self, shape: PlaceShape) -> None:
        super().__init__()
        self.scale = LearnedFactors((shape.heads, shape.width), 1.0, shape.d_model**-0.5)

    def forward(self, x: Float[Tensor, "batch heads tokens d_head"], passed: Passed) -> Tensor:
        """Each head's vectors; heads of the queries that share keys share their factors."""
        scale = self.scale().repeat_interleave(x.shape[1] // self.scale.parameter.shape[0], dim=0)
        return (x.shape[-1] ** 0.5 * scale[:, None]).to(x.dtype) * unit(x)


class InnerScale(nn.Module):
    """`s * sqrt(d_model) * x`."""

    def __init__(self, shape: PlaceShape) -> None:
        super().__init__()
        self.scale = LearnedFactors((shape.width,), 1.0, 1.0)
        self.root = shape.d_model**0.5

    def forward(self, x: Float[Tensor, "*tokens d_ff"], passed: Passed) -> Tensor:
        """Each feature times its factor."""
        return (self.root * self.scale()).to(x.dtype) * x


class LogitScale(nn.Module):
    """`s_z * logits`."""

    def __init__(self, d_model: int, vocab_size: int) -> None:
        super().__init__()
        self.scale = LearnedFactors((vocab_size,), 1.0, d_model**-0.5)

    def forward(self, logits: Float[Tensor, "*tokens vocab_size"]) -> Float[Tensor, "*tokens vocab_size"]:
        """Each entry of the vocabulary times its factor."""
        return self.scale().to(logits.dtype) * logits


@dataclass(frozen=True, kw_only=True)
class UnitHeadsPart(Part):
    """Queries and keys on the sphere."""

    def build(self, shape: PlaceShape) -> nn.Module:
        """One factor a feature of a head."""
        return UnitHeads(shape)


@dataclass(frozen=True, kw_only=True)
class InnerScalePart(Part):
    """The feed-forward's inner vector, enlarged."""

    def build(self, shape: PlaceShape) -> nn.Module:
        """One factor an inner feature."""
        return InnerScale(shape)


@dataclass(frozen=True, kw_only=True)
class NGPT(Scheme):
    """nGPT: the stream lives on the unit sphere, and each sublayer moves it a learned part of the way to its output.

        x <- unit(x + |alpha| * (unit(F(x)) - x)),  unit(x) = x / ||x||;    hidden = x
        q, k <- s_qk * unit(q), s_qk * unit(k);    logits <- s_z * logits

    The softmax is over `sqrt(d_head) q k^T`; the feed-forward's inner vectors (with SwiGLU both) are multiplied by
    `s_u sqrt(d)` before the activation. Alpha starts at 0.05 in each feature, all s at one. Alpha, s_qk and s_z are
    stored as `1 / sqrt(d)`, so that an Adam step moves them `sqrt(d)` times as far. At the start and after every
    step of the optimizer, all weights have rows (input projections, embedding, head) or columns (output projections) of
    length one: a training loop of one's own calls `after_step_()` of the model. There is no weight decay.

    Reference: Loshchilov et al. 2024, arXiv:2410.01131.
    Cost: d parameters a sublayer, d (the width of keys) an attention, d_ff to 2 d_ff a feed-forward, V for the logits;
    residual traffic 3d a token and sublayer and two norms; one pass over all weights a step.
    Deviation: the authors use no biases, no tied embeddings and no warm-up (`bias=False`, `tie_embeddings=False`,
    `warm_up=0`); all are the user's choice here. As in their code s_qk is one a head and feature, and both halves of
    SwiGLU carry `sqrt(d)`; the paper's text has it on one. With grouped queries the heads of a group share s_qk.

    Args:
        alpha: the initial step, |alpha|.
    """

    norm: NormKind = field(init=False, default="none")
    alpha: float = 0.05

    diagram: ClassVar[str] = "box:unit fork sublayer box:unit scale:α add"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("alpha", self.alpha)

    @property
    def constrains_weights(self) -> bool:
        """To the sphere."""
        return True

    def connection(self, d_model: int, site: Site) -> Connection:
        """One step size a feature."""
        return UnitConnection(d_model, self.alpha)

    def entrance(self, d_model: int) -> nn.Module:
        """Onto the sphere; an embedding without positions is on it already."""
        return Unit()

    def exit(self, d_model: int) -> Exit:
        """The stream is on the sphere already."""
        return Exit(d_model, "none")

    def inside(self, site: Site) -> Inside:
        """Queries and keys on the sphere, inner vectors of a size that activations can use."""
        return Inside(turned=UnitHeadsPart(), inner=InnerScalePart(), gate=InnerScalePart())

    def logits(self, d_model: int, vocab_size: int) -> nn.Module:
        """One factor an entry of the vocabulary."""
        return LogitScale(d_model, vocab_size)

    @torch.no_grad()
    def after_step_(self, site: Site | None, rows: Sequence[Tensor], columns: Sequence[Tensor]) -> None:
        """All vectors of the stream that are weights get length one."""
        for weights, dim in ((rows, -1), (columns, 0)):
            for weight in weights:
                weight.copy_(unit(weight, dim))

    def optimizer_rule(self, site: Site | None, own: str | None = None) -> OptimizerRule:
        """No weight decay."""
        return OptimizerRule(weight_decay=0.0)
