"""What the schemes share that carry something beside one stream: their states are records with a `stream`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, nn

from addnorm.layers.norm import EPS, NormKind, make_norm
from addnorm.residual import Connection, Exit, State

if TYPE_CHECKING:
    from jaxtyping import Float


class OutputsKept(NamedTuple):
    """The stream; the embedding and the layers' outputs as they came, or what else is kept of them."""

    stream: Float[Tensor, "*tokens d_model"]
    kept: tuple[Float[Tensor, "*tokens d_model"], ...]


class Gated(NamedTuple):
    """The stream, and the gate that the update goes through: one a token, or one a feature."""

    stream: Float[Tensor, "*tokens d_model"]
    gate: Float[Tensor, "*tokens gates"]


class CarryingConnection(Connection):
    """`x + F(norm(x))`; what is carried is handed on as it is."""

    def __init__(self, d_model: int, norm: NormKind, eps: float = EPS) -> None:
        super().__init__()
        self.norm = make_norm(norm, d_model, eps)

    def read(self, state: State) -> tuple[Float[Tensor, "*tokens d_model"], State]:
        """The normalised stream; the whole state is the skip."""
        return self.norm(state.stream), state

    def write(self, skip: State, update: Tensor) -> State:
        """Add to the stream."""
        return skip._replace(stream=skip.stream + update)


class FirstKept(nn.Module):
    """The embedding is the stream, and the first of the history."""

    def forward(self, embedding: Float[Tensor, "*tokens d_model"]) -> OutputsKept:
        """The first state."""
        return OutputsKept(embedding, (embedding,))


class KeepingConnection(CarryingConnection):
    """`x + F(norm(x))`; closes a layer, whose output is kept."""

    def write(self, skip: OutputsKept, update: Tensor) -> OutputsKept:
        """Add, and keep the sum."""
        x = skip.stream + update
        return OutputsKept(x, (*skip.kept, x))


class StreamExit(Exit):
    """The stream alone."""

    def collapse(self, state: State) -> Tensor:
        """The stream."""
        return state.stream
