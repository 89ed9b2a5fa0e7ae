"""Continue a run from its last checkpoint."""

from __future__ import annotations

from addnorm.errors import UserError
from addnorm.training.checkpoint import POINTERS
from addnorm.training.repair import warn_of_damage
from addnorm.training.trainer import Trainer


def restore(trainer: Trainer) -> None:
    """Put the last checkpoint that is whole in place, if there is one, and take later rows back.

    Raises:
        UserError: the checkpoint is another run's.
    """
    run = trainer.run
    run.checkpoints.sweep()
    found = run.checkpoints.load("last")
    if found is None:
        run.rewind(-1)
        return
    checkpoint, faults = found
    warn_of_damage(run, checkpoint, faults)
    for name in faults.keys() - set(POINTERS):
        run.checkpoints.set_aside(name)
    try:
        trainer.restore(checkpoint)
    except UserError:
        raise
    except (AttributeError, KeyError, IndexError, RuntimeError, TypeError, ValueError) as error:
        said = f"{type(error).__name__}: {error}"
        raise UserError(
            f"step {checkpoint.state['step']} in {run.checkpoints.folder} is no checkpoint of this run ({said}); "
            "it was written for another config, or by another release of addnorm."
        ) from error
    run.checkpoints.mend_pointers()
    run.rewind(trainer.at.step, checkpoint.state.get("metrics"))
