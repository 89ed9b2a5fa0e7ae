"""Where the trunk of any model is: found from one forward, whoever wrote the model."""

from __future__ import annotations

from typing import Any

from torch import nn

from addnorm.diagnosis.chunks import parts_of, rows_of
from addnorm.diagnosis.paths import Path, paths
from addnorm.diagnosis.running import as_it_was, does_not_fit, is_out_of_memory, recorded
from addnorm.diagnosis.tape import Tape
from addnorm.diagnosis.trunk import Trunk
from addnorm.errors import UserError


def find(model: nn.Module, batch: Any) -> list[Trunk]:
    """The trunks of a model, in the order of its forward: one of a decoder, two of an encoder-decoder.

    One forward in evaluation is recorded, and the sums `state + f(state)` are looked up in it, by what each value was
    computed from; names are those of the modules that computed them. The model is left as it was.

    Args:
        model: any module.
        batch: what its forward takes: a tensor, a tuple of its arguments, a dict of its keyword arguments.

    Raises:
        UserError: the model does not run on the batch, has no residual trunk, or one sample does not fit memory.
    """
    rows = rows_of(batch)
    while True:
        try:
            with as_it_was(model):
                tape, _ = recorded(model, next(parts_of(batch, None, rows)).batch)
                return [path.trunk for path in found_in(tape)]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if rows <= 1:
                raise does_not_fit(model) from error
        rows = (rows + 1) // 2


def found_in(tape: Tape) -> list[Path]:
    """The trunks on a tape.

    Raises:
        UserError: there is none.
    """
    found = paths(tape)
    if not found:
        raise UserError(
            f"{type(tape.model).__name__} has no residual trunk: in {len(tape.ops)} operations of its forward no two "
            "sums `state + f(state)` follow each other; give a model with residual connections, or the part of it that "
            "has them."
        )
    return found
