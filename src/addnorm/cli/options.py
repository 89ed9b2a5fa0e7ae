"""Options that commands share."""

from __future__ import annotations

from dataclasses import dataclass

from addnorm.checks import Positive, check_fields


@dataclass(frozen=True, kw_only=True)
class Passes:
    """Another way to give the budget."""

    epochs: Positive | None = None
    """Budget in passes over the training data: short for the --steps that see as many examples as there are (of a text:
    windows of --context tokens) so many times; --print-config shows how many these are."""


@dataclass(frozen=True, kw_only=True)
class Watching:
    """What is shown on the way."""

    quiet: bool = False
    """No progress; results, warnings and errors are still printed."""
    log_every: Positive | None = None
    """Seconds between two lines of progress where standard error is no terminal. None: 30, sooner where 5 % more are
    done."""

    def __post_init__(self) -> None:
        check_fields(self)
