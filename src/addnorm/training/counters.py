"""Where a run stands, beside its tensors."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from addnorm.files import finite


@dataclass(frozen=True, kw_only=True)
class Counters:
    """What a checkpoint stores of the loop.

    Args:
        step: steps taken, skipped ones too; the place in the data.
        evaluations, signals, saves: how many shares of the budget have had theirs; -1 before the one at the start.
        bad_in_a_row: skipped steps since the last good one.
        loss: of the last step.
        validation_loss, validation_step: the last one, and the step it was measured at.
        best_loss: the lowest validation loss of a checkpoint.
        lowest_loss: the lowest validation loss of all.
        without_gain: evaluations since that one.
        rollbacks: how often the run went back to a snapshot.
    """

    step: int = 0
    evaluations: int = -1
    signals: int = -1
    saves: int = 0
    bad_in_a_row: int = 0
    loss: float = math.nan
    validation_loss: float = math.nan
    validation_step: int = -1
    best_loss: float = math.inf
    lowest_loss: float = math.inf
    without_gain: int = 0
    rollbacks: int = 0

    def evaluated(self, evaluations: int, loss: float) -> Counters:
        """The counters after a validation loss was measured."""
        lower = loss < self.lowest_loss
        return replace(
            self,
            evaluations=evaluations,
            validation_loss=loss,
            validation_step=self.step,
            lowest_loss=loss if lower else self.lowest_loss,
            without_gain=0 if lower else self.without_gain + 1,
        )

    def as_json(self) -> dict[str, Any]:
        """The fields; nan and infinity as text.

        >>> Counters.from_json(Counters(step=3).as_json()).best_loss
        inf
        """
        return finite(asdict(self))

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Counters:
        """What `as_json` wrote."""
        read: dict[str, Any] = {name: float(item) if isinstance(item, str) else item for name, item in values.items()}
        return cls(**read)
