"""Fresh parameters, keyed by (seed, module path): the same seed gives the same sublayers under any scheme."""

from __future__ import annotations

import hashlib
import math
from itertools import chain
from typing import Any, Literal

import torch
from torch import nn

from addnorm.errors import UserError, unknown

InitRule = Literal["xavier", "normal"]


def generator_for(seed: int, path: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator whose stream depends on the seed and the path alone, not on what was drawn before."""
    return torch.Generator(device).manual_seed(_key(seed, path))


def _key(seed: int, path: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{path}".encode()).digest()[:7], "little")


@torch.no_grad()
def initialise_(model: nn.Module, seed: int, rule: InitRule = "xavier") -> None:
    """Fill every parameter and buffer afresh; those on the meta device are left.

    Linears: "xavier" draws `N(0, 2 / (fan_in + fan_out))` (Glorot and Bengio 2010; what DeepNet starts from), "normal"
    draws `N(0, 0.02^2)` (GPT-2). Biases are zero, embeddings `N(0, 1/width)` or `N(0, 0.02^2)`. Every other module
    fills its own parameters and buffers by torch's name for that, `reset_parameters()`: it draws from the global
    generator, which is lent to it with the key of its path and comes back as it was.

    Args:
        model: the modules to fill, in place.
        seed: of all draws.
        rule: of linears and embeddings.

    Raises:
        UserError: the rule is unknown, or a module has parameters or buffers and no way to fill them.
    """
    if rule not in ("xavier", "normal"):
        raise unknown("init", rule, ("xavier", "normal"))
    cuda = {tensor.device for tensor in chain(model.parameters(), model.buffers()) if tensor.is_cuda}
    with torch.random.fork_rng(cuda):
        for path, module in reversed(list(model.named_modules())):  # children first: a parent has the last word on them
            first = next(chain(module.parameters(), module.buffers()), None)
            if first is not None and not first.is_meta:
                # On a CPU torch.manual_seed, which looks for every kind of accelerator, takes half a millisecond.
                lend = torch.default_generator.manual_seed if first.device.type == "cpu" else torch.manual_seed
                lend(_key(seed, path))
                _fill_(module, path, rule)


def _fill_(module: nn.Module, path: str, rule: InitRule) -> None:
    reset_parameters = getattr(module, "reset_parameters", None)
    if getattr(type(module), "reset_parameters", None) in (nn.Linear.reset_parameters, nn.Embedding.reset_parameters):
        _draw_(module, rule)
    elif callable(reset_parameters):
        reset_parameters()
    elif [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
        raise UserError(f"{path} ({type(module).__name__}) has parameters; give it a method reset_parameters().")


def _draw_(module: Any, rule: InitRule) -> None:
    """A linear or an embedding, by the rule."""
    rows, columns = module.weight.shape
    std = 0.02
    if rule == "xavier":
        std = math.sqrt(2 / (rows + columns)) if isinstance(module, nn.Linear) else columns**-0.5
    module.weight.normal_(0.0, std)
    if isinstance(module, nn.Linear) and module.bias is not None:
        module.bias.zero_()
