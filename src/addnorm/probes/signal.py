"""Signal flow: what every sublayer reads and writes, and what gradient reaches every depth.

    rms(x) = sqrt(mean(x^2));    state_grad_norm_i = || d loss / d state_i ||_2 over all tensors of the state
    update_ratio_i = || w_after - w_before ||_2 / || w_before ||_2 over the weights of sublayer i

Torch's own forward hooks on `addnorm.stack.Block` and its sublayer see everything; no model has to know of it. Each
block gets its state as fresh views, so that the gradient at a depth counts what comes after that depth only: without
them, a tensor that a scheme reads again later (the history of Attention Residuals) would collect the gradients of all
its readers in one place. A view computes nothing, and a law holds that a probed training step equals an unprobed one
bit for bit.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.hooks import RemovableHandle

from addnorm.stack import Stack

if TYPE_CHECKING:
    from jaxtyping import Float


def stack_of(model: nn.Module) -> Stack | None:
    """The first stack of a model, or None."""
    return next((module for module in model.modules() if isinstance(module, Stack)), None)


class SignalFlow:
    """Measures one forward and backward of a stack while it is entered.

    Examples:
        >>> import addnorm
        >>> model = addnorm.Transformer(
        ...     addnorm.schemes.get("pre-norm")(), vocab_size=16, d_model=8, num_heads=2, num_layers=1
        ... )
        >>> with SignalFlow(model.stack) as flow:
        ...     model(torch.arange(5)[None]).sum().backward()
        >>> sorted(flow.forward_and_backward())
        ['read_rms', 'state_grad_norm', 'state_rms', 'update_rms', 'weight_grad_norm']
    """

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        depth = len(stack.blocks)
        self._read: list[Tensor | None] = [None] * depth
        self._update: list[Tensor | None] = [None] * depth
        self._state: list[Tensor | None] = [None] * (depth + 1)
        self._square_grads: list[list[Tensor]] = [[] for _ in range(depth + 1)]
        self._before = [[weight.detach().clone() for weight in _weights(block)] for block in stack.blocks]
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> SignalFlow:
        for i, block in enumerate(self.stack.blocks):
            self._handles.append(block.register_forward_pre_hook(self._state_hook(i)))
            self._handles.append(block.get_submodule("sublayer").register_forward_hook(self._sublayer_hook(i)))
        last = len(self.stack.blocks)
        self._handles.append(self.stack.exit.register_forward_pre_hook(self._state_hook(last)))
        return self

    def __exit__(self, *_: object) -> None:
        while self._handles:
            self._handles.pop().remove()

    def forward_and_backward(self) -> dict[str, list[float]]:
        """RMS by site and depth, and gradient norms; after the backward, before gradients are cleared or clipped."""
        return {
            "read_rms": _numbers(self._read),
            "update_rms": _numbers(self._update),
            "state_rms": _numbers(self._state),
            "state_grad_norm": [sum(map(float, squares)) ** 0.5 for squares in self._square_grads],
            "weight_grad_norm": _numbers([_norm(_gradients(block)) for block in self.stack.blocks]),
        }

    def update_ratio(self) -> list[float]:
        """How far each sublayer's weights are from those it had when this object was made, relative to those.

        Nan for a sublayer without weights.
        """
        ratios: list[Tensor | None] = []
        for block, before in zip(self.stack.blocks, self._before, strict=True):
            moved = _norm([new.detach() - old for new, old in zip(_weights(block), before, strict=True)])
            size = _norm(before)
            ratios.append(None if moved is None or size is None else moved / size)
        return _numbers(ratios)

    def _state_hook(self, i: int) -> Any:
        def hook(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
            # A tensor that stands in the state twice gets one view: two would add up its gradients in another order.
            leaves = {id(leaf): leaf for leaf in tree_leaves(arguments[0])}
            views = {key: self._watched(leaf, i) for key, leaf in leaves.items()}
            state = tree_map(lambda leaf: views[id(leaf)], arguments[0])
            with torch.no_grad():
                self._state[i] = rms(self.stack.exit.collapse(state))
            return (state, *arguments[1:])

        return hook

    def _watched(self, leaf: Any, i: int) -> Any:
        """A view of a tensor of the state that reports its gradient."""
        if not isinstance(leaf, Tensor) or not leaf.requires_grad:
            return leaf
        view = leaf.view_as(leaf)
        squares = self._square_grads[i]
        view.register_hook(lambda gradient: squares.append(_square(gradient)))
        return view

    def _sublayer_hook(self, i: int) -> Any:
        def hook(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
            self._read[i], self._update[i] = _rms_of(arguments[0]), _rms_of(output)

        return hook


@torch.no_grad()
def rms(x: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    """Root mean square over all elements, in float32 at least.

    >>> float(rms(torch.tensor([3.0, -3.0])))
    3.0
    """
    x = x.detach()
    x = x if x.dtype == torch.float64 else x.float()
    return torch.linalg.vector_norm(x) / max(x.numel(), 1) ** 0.5


def _rms_of(value: Any) -> Tensor | None:
    """Of a tensor, or over all tensors of a read with several views."""
    leaves = [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
    if not leaves:
        return None
    return torch.stack([rms(leaf) for leaf in leaves]).square().mean().sqrt()


@torch.no_grad()
def _square(gradient: Tensor) -> Tensor:
    return torch.linalg.vector_norm(gradient.float()).double().square()


def _weights(block: nn.Module) -> list[nn.Parameter]:
    return list(block.get_submodule("sublayer").parameters())


def _gradients(block: nn.Module) -> list[Tensor]:
    """Zero for a weight that got none; frozen weights are not asked."""
    trained = [weight for weight in _weights(block) if weight.requires_grad]
    return [weight.new_zeros(()) if weight.grad is None else weight.grad for weight in trained]


@torch.no_grad()
def _norm(tensors: list[Tensor]) -> Tensor | None:
    """The norm of all tensors together; None when there are none."""
    norms = [torch.linalg.vector_norm(tensor.float()) for tensor in tensors]
    return torch.linalg.vector_norm(torch.stack(norms).double()) if norms else None


def _numbers(values: list[Tensor | None] | list[Tensor]) -> list[float]:
    """Floats; nan for what is not there."""
    return [math.nan if value is None else float(value) for value in values]
