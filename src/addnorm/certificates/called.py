"""A module that is called with tokens, masks, keywords, seen as a map from vectors to vectors."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from addnorm.errors import UserError


class Called(nn.Module):
    """Any module at the arguments of an example; the vectors stand where the example has vectors or embeds its ids.

    The example's other tensors are repeated to as many rows and tokens as the vectors have.

    Args:
        module: whoever wrote it.
        example: what it is called with: a tensor, a tuple of arguments, or keywords by name. Its first tensor of the
            shape (batch, tokens, d_model), or else its first of integers (batch, tokens), is what is replaced.

    Raises:
        UserError: the example holds neither.
    """

    def __init__(self, module: nn.Module, example: Any) -> None:
        super().__init__()
        self.module = module
        self.example = example if isinstance(example, tuple | Mapping) else (example,)
        self.kept = _replaced(tree_leaves(self.example))

    @property
    def takes_ids(self) -> bool:
        """Whether it embeds what it is given."""
        return not self.kept.is_floating_point()

    @torch.no_grad()
    def width(self) -> int:
        """The size of one vector: the example's, or that of the first embedding of its ids."""
        if not self.takes_ids:
            return self.kept.shape[-1]
        seen: list[Tensor] = []
        with _Embedded(self.module, self.kept.shape, lambda vectors: seen.append(vectors) or vectors):
            self._run(self.example)
        if not seen:
            raise UserError(
                f"{type(self.module).__name__} embeds none of its ids by an nn.Embedding; give vectors in their place "
                "(inputs_embeds=... of a transformers model)."
            )
        return seen[0].shape[-1]

    def forward(self, x: Tensor) -> Tensor:
        """The first output that has a row for each row of the vectors.

        Shape:
            x: (batch, tokens, d_model).
        """
        ids = torch.zeros(x.shape[:2], dtype=self.kept.dtype) if self.takes_ids else x
        arguments = tree_map(lambda leaf: ids if leaf is self.kept else _to_size(leaf, x), self.example)
        if not self.takes_ids:
            return _vectors(self._run(arguments), x)
        with _Embedded(self.module, ids.shape, lambda vectors: x.to(vectors)):
            return _vectors(self._run(arguments), x)

    def _run(self, arguments: Any) -> Any:
        return self.module(**arguments) if isinstance(arguments, Mapping) else self.module(*arguments)

    def __deepcopy__(self, memo: dict[int, Any]) -> Called:
        return Called(copy.deepcopy(self.module, memo), self.example)


class _Embedded:
    """While it is entered, the first embedding of ids of a shape gives what a function makes of it."""

    def __init__(self, module: nn.Module, shape: torch.Size, change: Any) -> None:
        self.tables = [part for part in module.modules() if isinstance(part, nn.Embedding)]
        self.shape, self.change, self.done = shape, change, False

    def __enter__(self) -> None:
        self.hooks = [table.register_forward_hook(self._hook) for table in self.tables]

    def __exit__(self, *error: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def _hook(self, table: nn.Module, given: tuple[Any, ...], vectors: Tensor) -> Tensor | None:
        if self.done or not given or given[0].shape != self.shape:
            return None
        self.done = True
        return self.change(vectors)


def _replaced(leaves: list[Any]) -> Tensor:
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    vectors = [leaf for leaf in tensors if leaf.is_floating_point() and leaf.dim() == 3]
    ids = [leaf for leaf in tensors if leaf.dtype in (torch.int64, torch.int32) and leaf.dim() == 2]
    if not vectors and not ids:
        shapes = ", ".join(f"{leaf.dtype} {tuple(leaf.shape)}" for leaf in tensors) or "no tensor"
        raise UserError(
            f"the example holds {shapes}; give token ids (batch, tokens) or vectors (batch, tokens, d_model) among it."
        )
    return (vectors or ids)[0]


def _to_size(leaf: Any, x: Tensor) -> Any:
    """A tensor of the example at the vectors' rows, tokens and precision: repeated where there are more."""
    if not isinstance(leaf, Tensor):
        return leaf
    for dim, size in zip(range(min(leaf.dim(), 2)), x.shape, strict=False):
        if leaf.shape[dim] != 1:
            leaf = leaf.index_select(dim, torch.arange(size) % leaf.shape[dim])
    return leaf.to(x.dtype) if leaf.is_floating_point() else leaf


def _vectors(output: Any, x: Tensor) -> Tensor:
    values = list(output.values()) if isinstance(output, Mapping) else tree_leaves(output)
    for leaf in tree_leaves(values):
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.dim() >= 2 and len(leaf) == len(x):
            return leaf
    raise UserError(f"the module's output ({type(output).__name__}) has no tensor with a row for each of the batch's.")
