"""Running somebody's model on somebody's batch, and leaving it as it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from addnorm.diagnosis.tape import Tape
from addnorm.errors import UserError
from addnorm.kernels import native
from addnorm.probes.untouched import untouched


def call(model: nn.Module, batch: Any) -> Any:
    """The model on a batch: a dict is its keyword arguments, a tuple or a list its arguments, all else its first."""
    if isinstance(batch, tuple | list):
        return model(*batch)
    if isinstance(batch, dict) or hasattr(batch, "keys"):
        return model(**dict(batch))
    return model(batch)


def recorded(model: nn.Module, batch: Any) -> tuple[Tape, Any]:
    """The tape of one forward in evaluation, and what the model returned, with a graph for gradients.

    Raises:
        UserError: the model does not run on the batch.
    """
    tape, own = Tape(model), tree_map(_own, batch)
    try:
        with tape:
            output = call(model, own)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise _cannot_run(model, batch, error) from error
    return tape, output


def gradients(loss: Tensor, wanted: Sequence[Any], *, keep: bool = False) -> tuple[Tensor | None, ...]:
    """Of a loss, at tensors or edges of its graph; None where none arrives.

    Args:
        loss: a scalar.
        wanted: where.
        keep: whether the graph is needed again.

    Raises:
        UserError: the model writes over what its backward needs.
    """
    try:
        return torch.autograd.grad(loss, tuple(wanted), allow_unused=True, retain_graph=keep)
    except RuntimeError as error:
        if is_out_of_memory(error) or "modified by an inplace operation" not in str(error):
            raise
        raise UserError(
            "the model's loss has no gradient, because its forward changes in place what backward needs (x += ... on "
            "a state that was read); write x = x + ..., or leave targets and loss out."
        ) from error


@contextmanager
def as_it_was(model: nn.Module) -> Iterator[None]:
    """Within it the model is in evaluation and every parameter takes a gradient; then all is put back.

    Its mode, what needs a gradient, gradients, buffers and torch's random stream. The fused paths of
    `torch.nn.TransformerEncoder` and addnorm's own kernels, in which no sum is to be seen, are off within.
    """
    modes = [(module, module.training) for module in model.modules()]
    frozen = [p for p in model.parameters() if not p.requires_grad and p.is_floating_point() and p.is_leaf]
    fast = torch.backends.mha.get_fastpath_enabled()
    with untouched(model), native.switched(False), torch.inference_mode(False), torch.enable_grad():
        try:
            torch.backends.mha.set_fastpath_enabled(False)
            model.eval()
            for parameter in frozen:
                parameter.requires_grad_(True)
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
            for parameter in frozen:
                parameter.requires_grad_(False)
            for module, training in modes:
                module.training = training


def is_out_of_memory(error: BaseException) -> bool:
    """Whether there was no room, on a GPU or in the machine's memory."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "not enough memory" in str(error)


def does_not_fit(model: nn.Module) -> UserError:
    """The error for a single sample that is too much."""
    return UserError(
        f"one sample of the batch does not fit memory with {type(model).__name__}; give shorter sequences, or the model"
        " in bfloat16."
    )


def _own(leaf: Any) -> Any:
    """A floating-point input that takes a gradient, without touching the caller's."""
    if isinstance(leaf, Tensor) and leaf.is_floating_point():
        return leaf.detach().clone().requires_grad_(True)
    return leaf.clone() if isinstance(leaf, Tensor) and leaf.is_inference() else leaf


def _cannot_run(model: nn.Module, batch: Any, error: Exception) -> UserError:
    why = " ".join(str(error).split())
    why = why if len(why) <= 200 else f"{why[:197]}..."
    return UserError(
        f"{type(model).__name__} does not run on {described(batch)}: {type(error).__name__}: {why} Give the batch that "
        "its forward takes: a tensor, a tuple of its arguments, or a dict of its keyword arguments."
    )


def described(batch: Any) -> str:
    """A batch in a few words."""
    if isinstance(batch, Tensor):
        return f"a tensor of shape {tuple(batch.shape)} and {batch.dtype}".replace("torch.", "")
    if isinstance(batch, dict) or hasattr(batch, "keys"):
        return f"a dict of {', '.join(map(str, batch.keys())) or 'nothing'}"
    if isinstance(batch, tuple | list):
        return f"{len(batch)} arguments"
    return f"a {type(batch).__name__}"
