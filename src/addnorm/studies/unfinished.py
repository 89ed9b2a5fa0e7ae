"""A comparison before its end: what is shown of the runs that have ended, and how often."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from typing import Any

from addnorm.studies.runner import StudyProgress
from addnorm.studies.verdict import BASELINE, NO_RUN, NOT_EVEN

NOT_YET, NO_RUN_YET = "not decided yet", "no run ended yet"
SHARE = 100
"""How many times as long as a page took to write passes until the next."""


def unfinished(results: dict[str, Any], ended: int, total: int, seeds: int) -> dict[str, Any]:
    """Results of the runs that have ended, which say that more are to come.

    Args:
        results: as `results.json` holds them, of these runs alone.
        ended, total: runs.
        seeds: an arm will have; with fewer nothing is said of it.
    """
    return {
        **results,
        "unfinished": {"ended": ended, "total": total},
        "arms": [_arm(arm, seeds) for arm in results["arms"]],
        "answers": [],
        "notes": [note for note in results["notes"] if not note.startswith(NOT_EVEN)],
    }


def _arm(arm: dict[str, Any], seeds: int) -> dict[str, Any]:
    ended = len(arm["seeds"])
    if ended >= seeds or arm["verdict"] == BASELINE:
        return arm
    word = NO_RUN_YET if arm["verdict"] == NO_RUN else NOT_YET
    return {**arm, "verdict": word, "verdict_text": f"{ended} of {seeds} seeds have ended."}


class PageWarning(UserWarning):
    """What a comparison shows of itself on the way could not be written."""


class Ended:
    """Calls back as runs end; after each call waits `SHARE` times as long as it took. An error there ends no training.

    Args:
        show: what to do.
        follow: is told all progress besides.
    """

    def __init__(self, show: Callable[[], object], follow: Callable[[StudyProgress], None] | None) -> None:
        self.show, self.follow = show, follow
        self.seen, self.next_s = 0, 0.0

    def __call__(self, progress: StudyProgress) -> None:
        """Take progress in."""
        if self.follow is not None:
            self.follow(progress)
        began = time.monotonic()
        ended = progress.done - progress.failed
        if ended <= self.seen or began < self.next_s or progress.done == progress.total:
            return
        self.seen = ended
        try:
            self.show()
        except Exception as error:
            self.next_s = math.inf
            text = f"the page is not written again before the end ({type(error).__name__}: {error}); training goes on."
            warnings.warn(text, PageWarning, stacklevel=2)
            return
        now = time.monotonic()
        self.next_s = now + SHARE * (now - began)
