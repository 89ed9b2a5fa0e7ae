"""A model's weights as named tensors, and back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from addnorm.errors import UserError


def weights_of(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Parameters and buffers by name, each stored once.

    Returns:
        The tensors, as copies; and for each tied name the name under which its tensor is.
    """
    tensors: dict[str, Tensor] = {}
    ties: dict[str, str] = {}
    first: dict[tuple[Any, ...], str] = {}
    for name, tensor in model.state_dict().items():
        place = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if tensor.numel() and place in first:
            ties[name] = first[place]
        else:
            first[place] = name
            tensors[name] = tensor.detach().clone(memory_format=torch.contiguous_format)
    return tensors, ties


def load_weights_(model: nn.Module, tensors: dict[str, Tensor], ties: dict[str, str]) -> None:
    """Fill a model of the same shape; tied tensors stay tied.

    Raises:
        UserError: the tensors are those of another model.
    """
    try:
        model.load_state_dict({**tensors, **{name: tensors[kept] for name, kept in ties.items()}})
    except (RuntimeError, KeyError, TypeError) as error:
        raise UserError(
            f"the checkpoint's weights do not fit the model ({' '.join(str(error).split())}); "
            "it was written for another config, or by another release of addnorm."
        ) from error
