"""A model from a function of the user's own: `package.module:factory`, `FILE.py:factory`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from addnorm.diagnosis.loading.loaded import Loaded, random_ids, random_numbers
from addnorm.diagnosis.running import as_it_was, call
from addnorm.errors import UserError, unknown
from addnorm.registry import module_of


def of_factory(text: str) -> Loaded:
    """What the function returns: a model, or a model and its batch, or these and targets.

    A model that comes alone is tried on ids of its first table, then on vectors of its first width.

    Raises:
        UserError: there is no such function, it fails, it returns no model, or no batch runs.
    """
    place, _, name = text.rpartition(":")
    factory = getattr(_module(place), name, None)
    if not callable(factory):
        raise unknown("factory", name, [each for each in dir(_module(place)) if not each.startswith("_")] or ["none"])
    try:
        made = factory()
    except Exception as error:
        raise UserError(f"{text}() raised {_said(error)}; call it without arguments and mend it.") from error
    model, batch, targets = (*made, None, None)[:3] if isinstance(made, tuple) else (made, None, None)
    if not isinstance(model, nn.Module) or not isinstance(targets, Tensor | None):
        raise UserError(
            f"{text}() returned a {type(made).__name__}; it must return a torch.nn.Module, or (model, batch), or "
            "(model, batch, targets)."
        )
    about = "the factory's batch"
    if batch is None:
        batch, about = _tried(model, text)
    return Loaded(model=model.eval(), batch=batch, targets=targets, about=about)


def _module(place: str) -> ModuleType:
    if place.endswith(".py"):
        return module_of(Path(place).expanduser(), "a Python file that defines the factory")
    try:
        with _from_here():
            return importlib.import_module(place)
    except Exception as error:
        raise UserError(
            f"module '{place}' is not imported ({_said(error)}); name a module that Python finds from this folder."
        ) from error


@contextmanager
def _from_here() -> Iterator[None]:
    """Within it modules of the current folder are found, as `python -m` does."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _tried(model: nn.Module, text: str) -> tuple[Any, str]:
    for batch, about in _guesses(model):
        try:
            with as_it_was(model):
                call(model, batch)
        except Exception:  # the next guess
            continue
        return batch, about
    raise UserError(
        f"{text}() returned a model alone, and it runs neither on ids nor on vectors; return (model, batch), the batch "
        "a tensor, a tuple of arguments, or a dict of keyword arguments."
    )


def _guesses(model: nn.Module) -> Iterator[tuple[Tensor, str]]:
    table = next((each for each in model.modules() if isinstance(each, nn.Embedding)), None)
    if table is not None:
        for tokens in (32, 8):
            yield random_ids(table.num_embeddings, tokens), "random ids"
    widths = [each.normalized_shape[-1] for each in model.modules() if isinstance(each, nn.LayerNorm | nn.RMSNorm)]
    widths += [each.in_features for each in model.modules() if isinstance(each, nn.Linear)]
    if widths:
        yield random_numbers(2, 16, widths[0]), "random vectors"


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
