"""Residual and embedding lambdas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from addnorm.checks import check_finite, check_positive
from addnorm.config import OptimizerRule
from addnorm.layers.norm import NormKind, make_norm
from addnorm.residual import Connection, Exit, Scheme, Site
from addnorm.schemes._carried import CarryingConnection, StreamExit

if TYPE_CHECKING:
    from jaxtyping import Float


class Anchored(NamedTuple):
    """The stream, and the normalised embedding."""

    stream: Float[Tensor, "*tokens d_model"]
    embedding: Float[Tensor, "*tokens d_model"]


class LambdaConnection(CarryingConnection):
    """`x + F(norm(x))` after `x <- residual * x + embedding * x_0`; opens a layer."""

    def __init__(self, d_model: int, norm: NormKind, residual: float, embedding: float) -> None:
        super().__init__(d_model, norm)
        self.initial = residual, embedding
        # One element, not a scalar tensor: FSDP2 cannot shard those.
        self.residual, self.embedding = nn.Parameter(torch.empty(1)), nn.Parameter(torch.empty(1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Both at their places in the schedules over depth."""
        nn.init.constant_(self.residual, self.initial[0])
        nn.init.constant_(self.embedding, self.initial[1])

    def read(self, state: Anchored) -> tuple[Float[Tensor, "*tokens d_model"], Anchored]:
        """The normalised mixture; mixture and embedding are the skip."""
        x = self.residual * state.stream + self.embedding * state.embedding
        return self.norm(x), state._replace(stream=x)


class NormedTwice(nn.Module):
    """The normalised embedding is the stream, and is kept."""

    def __init__(self, d_model: int, norm: NormKind) -> None:
        super().__init__()
        self.norm = make_norm(norm, d_model)

    def forward(self, embedding: Float[Tensor, "*tokens d_model"]) -> Anchored:
        """Twice the same."""
        x = self.norm(embedding)
        return Anchored(x, x)


@dataclass(frozen=True, kw_only=True)
class ResidualLambdas(Scheme):
    """Residual lambdas: Pre-LN in which each layer first scales the stream and mixes the embedding into it again.

        x_0 = n(embedding);    x <- r_l * x + z_l * x_0  before layer l,  x <- x + F(n(x)) in it;    hidden = n(x)

    Two learned scalars a layer. Initially r_l and z_l fall linearly from the first layer to the last, by default as in
    nanochat of 2026: 1.15 to 1.05 and 0.20 to 0.05. The form of 2024 in modded-nanogpt started at 1 and 0, which is
    Pre-LN of the normalised embedding. `backout(inner=residual-lambdas)` is nanochat's whole stream.

    Reference: Jordan et al. 2024, github.com/KellerJordan/modded-nanogpt; Karpathy 2025, github.com/karpathy/nanochat;
    no paper, but DenseFormer's weighted average of earlier states has it as a case: Pagliardini et al. 2024,
    arXiv:2402.02622.
    Cost: d to 2d parameters a sublayer (the norm) and 2 a layer; residual traffic 4d a token and sublayer, state 2d.
    Deviation: nanochat's norms have no gain, and its optimizer gives the z_l a learning rate 100 times that of the
    r_l and the r_l a weight decay of 0.05 (both kept here, the decay as half of the matrices', 0.05 at the default of
    0.1), and the z_l a first-moment decay of 0.96 (left out).

    Args:
        residual_first: initial r of the first layer.
        residual_last: initial r of the last layer.
        embedding_first: initial z of the first layer.
        embedding_last: initial z of the last layer.
        embedding_learning_rate: factor on the learning rate of the z_l.
    """

    norm: NormKind = "rms"
    residual_first: float = 1.15
    residual_last: float = 1.05
    embedding_first: float = 0.20
    embedding_last: float = 0.05
    embedding_learning_rate: float = 100.0

    diagram: ClassVar[str] = "mix:r·x+z·x₀ fork box:n sublayer add"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("residual_first", "residual_last", "embedding_first", "embedding_last"):
            check_finite(name, getattr(self, name))
        check_positive("embedding_learning_rate", self.embedding_learning_rate)

    def connection(self, d_model: int, site: Site) -> Connection:
        """One norm, and at the first sublayer of a layer the two scalars."""
        if not site.opens_layer:
            return CarryingConnection(d_model, self.norm)
        share = site.layer / max(site.num_layers - 1, 1)
        residual = self.residual_first + share * (self.residual_last - self.residual_first)
        embedding = self.embedding_first + share * (self.embedding_last - self.embedding_first)
        return LambdaConnection(d_model, self.norm, residual, embedding)

    def entrance(self, d_model: int) -> nn.Module:
        """The norm of the embedding, kept beside the stream."""
        return NormedTwice(d_model, self.norm)

    def exit(self, d_model: int) -> Exit:
        """The stream, then the final norm."""
        return StreamExit(d_model, self.norm)

    def optimizer_rule(self, site: Site | None, own: str | None = None) -> OptimizerRule:
        """A learning rate of their own for the embedding's scalars, weight decay for the stream's."""
        if own == "embedding":
            return OptimizerRule(learning_rate=self.embedding_learning_rate)
        return OptimizerRule(weight_decay=0.5, decays=True) if own == "residual" else OptimizerRule()
