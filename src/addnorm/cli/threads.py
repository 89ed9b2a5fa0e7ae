"""How many processor threads a training run computes with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from addnorm.errors import UserError
from addnorm.json_file import read_object

NARROW = 128
"""Up to this width a model computes with one thread: a second brings little, and on a busy machine they wait."""


@contextmanager
def computing_with(number: int | None) -> Iterator[None]:
    """Within it, torch has so many threads; None changes nothing."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def threads(given: int | None, width: int, resumed: Path | None = None) -> int | None:
    """The threads of a run; None leaves it to torch, which takes all cores or what OMP_NUM_THREADS says.

    Args:
        given: the user's choice.
        width: of the model.
        resumed: the folder of the run that goes on; it keeps its threads, because others would round otherwise.

    Raises:
        UserError: the choice is no number from 1 to the cores of the machine.
    """
    if given is not None:
        if not 1 <= given <= _cores():
            raise UserError(f"threads={given} is not allowed; use a whole number from 1 to {_cores()}, the cores here.")
        return given
    before = None if resumed is None else _stored(resumed)
    if before is not None:
        return max(1, min(before, _cores()))
    if "OMP_NUM_THREADS" in os.environ:
        return None
    return 1 if width <= NARROW else None


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _stored(folder: Path) -> int | None:
    """What environment.json says; None where it says nothing of use."""
    try:
        found = read_object(folder / "environment.json")["threads"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, int) else None
