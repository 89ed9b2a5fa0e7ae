"""What the schemes share that carry something beside one stream: the state is a pair, the stream first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from addnorm.layers.norm import EPS, NormKind, make_norm
from addnorm.residual import Connection, Exit, State

if TYPE_CHECKING:
    from jaxtyping import Float

Carried = tuple[Tensor, State]  # the stream, and what is carried beside it
History = tuple[Tensor, tuple[Tensor, ...]]  # the stream; the embedding and the layers' outputs as they came


class CarryingConnection(Connection):
    """`x + F(norm(x))`; what is carried is handed on as it is."""

    def __init__(self, d_model: int, norm: NormKind, eps: float = EPS) -> None:
        super().__init__()
        self.norm = make_norm(norm, d_model, eps)

    def read(self, state: Carried) -> tuple[Float[Tensor, "*tokens d_model"], Carried]:
        """The normalised stream; the whole state is the skip."""
        return self.norm(state[0]), state

    def write(self, skip: Carried, update: Tensor) -> Carried:
        """Add to the stream."""
        x, carried = skip
        return x + update, carried


class FirstKept(nn.Module):
    """The embedding is the stream, and the first of the history."""

    def forward(self, embedding: Float[Tensor, "*tokens d_model"]) -> History:
        """The first state."""
        return embedding, (embedding,)


class KeepingConnection(CarryingConnection):
    """`x + F(norm(x))`; closes a layer, whose output is kept."""

    def write(self, skip: History, update: Tensor) -> History:
        """Add, and keep the sum."""
        x, history = skip
        x = x + update
        return x, (*history, x)


class StreamExit(Exit):
    """The stream alone."""

    def collapse(self, state: Carried) -> Tensor:
        """The stream."""
        return state[0]
