"""Which layers of a model do least, and which would be dropped first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from addnorm.diagnosis.measures.block_influence import influence
from addnorm.errors import UserError
from addnorm.probes.untouched import untouched


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What became of a model.

    Args:
        influences: block influence of each layer of the whole model.
        dropped: the layers that are gone, by their places in the whole model.
        before, after: the loss on the same held-out data; of the model as it was written.
        parameters: before and after.
        loss_name: the unit of the loss.
        out: where the model stands.
    """

    influences: list[float]
    dropped: list[int]
    before: float
    after: float
    parameters: tuple[int, int]
    loss_name: str
    out: Path


def least(influences: Sequence[float], layers: int) -> list[int]:
    """The layers to drop, in order of depth: those of least influence, of equal ones the deepest.

    Men et al. 2024, arXiv:2403.03853, drop them all at once.

    Raises:
        UserError: no layer would be left.

    >>> least([0.3, 0.1, 0.2, 0.1], 2)
    [1, 3]
    """
    if not 1 <= layers < len(influences):
        raise UserError(f"layers={layers} is not allowed; the model has {len(influences)}, drop 1 or more and keep 1.")
    order = sorted(range(len(influences)), key=lambda i: (influences[i], -i))
    return sorted(order[:layers])


@torch.no_grad()
def layer_influences(
    model: nn.Module, first: Sequence[nn.Module], last: nn.Module, runs: Sequence[Callable[[], Any]], *, inside: bool
) -> list[float]:
    """Block influence of each layer, the mean over batches.

    Args:
        model: in evaluation within.
        first: of each layer the module that is given the state before it.
        last: what is given, or gives, the state after the last layer.
        runs: each runs a batch.
        inside: whether `last` is the last layer itself, which gives the state; else it is given it.
    """
    seen: list[Tensor] = []

    def given(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append(_vectors(args[0] if args else next(iter(kwargs.values()))))

    def gave(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        seen.append(_vectors(output[0] if isinstance(output, tuple) and inside else output))

    training, found = model.training, []
    with ExitStack() as hooks, untouched(model):
        for module in [*first, *([] if inside else [last])]:
            hooks.enter_context(module.register_forward_pre_hook(given, with_kwargs=True))
        if inside:
            hooks.enter_context(last.register_forward_hook(gave))
        model.eval()
        for run in runs:
            seen.clear()
            run()
            found.append([influence(a, b) for a, b in zip(seen, seen[1:], strict=False)])
    model.train(training)
    return torch.tensor(found).mean(0).tolist()


def _vectors(state: Any) -> Tensor:
    """`(all_tokens, n, features)` of a state."""
    leaves = [leaf for leaf in tree_leaves(state) if isinstance(leaf, Tensor) and leaf.dim() > 2]
    width = max(leaf.shape[-1] for leaf in leaves)
    vectors = [leaf.reshape(*leaf.shape[:2], -1, width).flatten(0, 1) for leaf in leaves if leaf.shape[-1] == width]
    return torch.cat(vectors, dim=1).double()
