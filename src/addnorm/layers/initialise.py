"""Fresh parameters, keyed by (seed, module path): the same seed gives the same sublayers under any scheme."""

from __future__ import annotations

import hashlib
import math
from itertools import chain
from typing import Literal

import torch
from torch import nn

from addnorm.errors import UserError, unknown

InitRule = Literal["xavier", "normal"]


def generator_for(seed: int, path: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator whose stream depends on the seed and the path alone, not on what was drawn before."""
    digest = hashlib.sha256(f"{seed}/{path}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:7], "little"))


@torch.no_grad()
def initialise_(model: nn.Module, seed: int, rule: InitRule = "xavier") -> None:
    """Fill every parameter and buffer afresh; those on the meta device are left.

    Linears: "xavier" draws `N(0, 2 / (fan_in + fan_out))` (Glorot and Bengio 2010; what DeepNet starts from), "normal"
    draws `N(0, 0.02^2)` (GPT-2). Biases are zero, embeddings `N(0, 1/width)` or `N(0, 0.02^2)`. A module with a method
    `init_(generator)` fills its own parameters, one with `reset_parameters()` too.

    Args:
        model: the modules to fill, in place.
        seed: of all draws.
        rule: of linears and embeddings.

    Raises:
        UserError: the rule is unknown, or a module has parameters or buffers and no way to fill them.
    """
    if rule not in ("xavier", "normal"):
        raise unknown("init", rule, ("xavier", "normal"))
    for path, module in reversed(list(model.named_modules())):  # children first: a parent has the last word on them
        first = next(chain(module.parameters(), module.buffers()), None)
        if first is not None and not first.is_meta:
            _fill_(module, path, rule, generator_for(seed, path, first.device))


def _fill_(module: nn.Module, path: str, rule: InitRule, generator: torch.Generator) -> None:
    init_, reset_parameters = getattr(module, "init_", None), getattr(module, "reset_parameters", None)
    if callable(init_):
        init_(generator)
    elif isinstance(module, (nn.Linear, nn.Embedding)):
        _draw_(module, rule, generator)
    elif callable(reset_parameters):
        # torch's own layers draw from the global generator: lend it the key, and give it back as it was.
        with torch.random.fork_rng():
            torch.manual_seed(generator.initial_seed())
            reset_parameters()
    elif [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
        raise UserError(f"{path} ({type(module).__name__}) has parameters; give it a method init_(generator).")


def _draw_(module: nn.Linear | nn.Embedding, rule: InitRule, generator: torch.Generator) -> None:
    rows, columns = module.weight.shape
    std = 0.02
    if rule == "xavier":
        std = math.sqrt(2 / (rows + columns)) if isinstance(module, nn.Linear) else columns**-0.5
    module.weight.normal_(0.0, std, generator=generator)
    if isinstance(module, nn.Linear) and module.bias is not None:
        module.bias.zero_()
