"""What a connection's write does to the state, recovered from its behaviour alone.

    write(skip, 0) = M S    and    write(skip, y) - write(skip, 0) = G Y

S are the k vectors of a token's state (streams, or earlier outputs), Y the update, as one vector or as the fractions
that are as wide as the state's. M and G solve the least squares of a random state with more features than vectors; what
is left over says whether the write is of this form at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from addnorm.certificates.drawn_numbers import leaves, noise, shaken
from addnorm.layers.views import views_of
from addnorm.residual import Connection, State
from addnorm.stack import Block, Stack

if TYPE_CHECKING:
    from jaxtyping import Float

TOKENS = 5
# float64 least squares of some ten unknowns; a norm in the way leaves a tenth and more.
LINEAR = 1e-8


@dataclass(frozen=True, kw_only=True, eq=False)
class Recovered:
    """The write of one site.

    Args:
        mixing: M, or None where the write is not linear in the state.
        gate: G, or None where the write is not linear in the update.
    """

    mixing: Float[Tensor, "tokens new old"] | None
    gate: Float[Tensor, "tokens new parts"] | None


@torch.no_grad()
def recover(connection: Connection, state: State, update: Float[Tensor, "1 tokens d_model"]) -> Recovered:
    """M and G at a state whose vectors are in general position."""
    _, skip = connection.read(state)
    sources, still = vectors(state), vectors(connection.write(skip, torch.zeros_like(update)))
    moved = vectors(connection.write(skip, update))
    if sources is None or still is None or moved is None or still.shape[-1] != sources.shape[-1]:
        return Recovered(mixing=None, gate=None)
    width = sources.shape[-1]
    parts = update.reshape(sources.shape[0], -1, width) if update.shape[-1] % width == 0 else None
    gate = None if parts is None else _solve(moved - still, parts)
    return Recovered(mixing=_solve(still, sources), gate=gate)


def vectors(state: State) -> Float[Tensor, "tokens k width"] | None:
    """All vectors of each token, one under the other; None where they are not equally wide."""
    found = leaves(state)
    if len({leaf.shape[-1] for leaf in found}) != 1:
        return None
    return torch.cat([leaf.reshape(TOKENS, -1, leaf.shape[-1]) for leaf in found], dim=1)


@torch.no_grad()
def random_states(stack: Stack, d_model: int) -> Iterator[tuple[int, Connection, State, Tensor]]:
    """Each site with its connection, a state of the right form whose vectors all differ, and an update."""
    state = stack.entrance(noise((1, TOKENS, d_model), "embedding"))
    for site, block in enumerate(stack.blocks):
        assert isinstance(block, Block)
        state = shaken(state, f"state/{site}")
        update = noise((1, TOKENS, d_model), f"update/{site}")
        yield site, block.connection, state, update
        x, skip = block.connection.read(state)
        state = block.connection.write(skip, update.to(views_of(x).query.dtype))


def form(state: State) -> list[tuple[int, ...]]:
    """The shapes of a state's tensors, from the tokens on."""
    return [tuple(leaf.shape[2:]) for leaf in leaves(state)]


def norms_of(connection: nn.Module) -> dict[str, nn.Module]:
    """A connection's own norms, by name."""
    return {name: part for name, part in connection.named_children() if "norm" in type(part).__name__.lower()}


def _solve(outcome: Float[Tensor, "tokens m width"], sources: Float[Tensor, "tokens k width"]) -> Any:
    """`outcome = A sources` for A, or None where no A does it or more than one."""
    if sources.shape[1] >= sources.shape[2]:
        return None
    found = torch.linalg.lstsq(sources.mT, outcome.mT).solution.mT
    error = (found @ sources - outcome).abs().max() / outcome.abs().max().clamp_min(1e-30)
    return found if float(error) <= LINEAR or float(outcome.abs().max()) == 0 else None
