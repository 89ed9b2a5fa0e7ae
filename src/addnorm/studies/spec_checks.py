"""Which specifications of a comparison are allowed; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from addnorm import schemes
from addnorm.checks import check_count
from addnorm.errors import UserError

MOST_SEEDS = 1000


def check_number_of_seeds(name: str, value: int) -> None:
    """Refuse less than one seed, and more than a comparison can hold.

    Raises:
        UserError: with what is allowed.
    """
    check_count(name, value)
    if value > MOST_SEEDS:
        raise UserError(f"{name}={value} is not allowed; use {MOST_SEEDS} or fewer.")


def check_error(name: str, value: float) -> None:
    """Refuse what is no rate of errors.

    Raises:
        UserError: with what is allowed.
    """
    if not isinstance(value, float) or not 0 < value < 1:
        raise UserError(f"{name}={value} is not allowed; use a number between 0 and 1, such as 0.05.")


Seeds = Annotated[int, check_number_of_seeds]
ErrorRate = Annotated[float, check_error]


def check_scheme(specification: str) -> str:
    """The specification without outer blanks; its fields are checked when the comparison starts.

    Raises:
        UserError: no scheme has its name.
    """
    schemes.REGISTRY.check(specification)
    return specification.strip()


def refuse_repeats(name: str, values: Iterable[Any]) -> None:
    """Refuse a list with the same value twice.

    Raises:
        UserError: which value.
    """
    seen = set()
    for value in values:
        if value in seen:
            raise UserError(f"{name} has {value} twice; give it once.")
        seen.add(value)
