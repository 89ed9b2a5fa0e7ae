"""Which specifications of a comparison are allowed; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

from addnorm import schemes
from addnorm.checks import check_count
from addnorm.errors import UserError

if TYPE_CHECKING:
    from addnorm.studies.spec import CompareConfig

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


def to_tuples_(spec: CompareConfig) -> None:
    """Lists, as JSON and TOML give them, and lone values become tuples."""
    for name in ("schemes", "layers", "tokens", "steps", "seconds", "learning_rates"):
        value = getattr(spec, name)
        if isinstance(value, (str, int, float)):
            value = (value,)
        if value is not None:
            object.__setattr__(spec, name, tuple(value))


def check_lists(spec: CompareConfig) -> None:
    """Refuse empty lists, values that come twice, and budgets that are neither one for all nor one for each depth.

    Raises:
        UserError: which list, and what is wrong with it.
    """
    for name in ("schemes", "layers", "tokens", "learning_rates"):
        if not getattr(spec, name):
            raise UserError(f"{name} is empty; give at least one.")
    for name in ("layers", "learning_rates"):
        refuse_repeats(name, getattr(spec, name))
    for name in ("tokens", "steps", "seconds"):
        values = getattr(spec, name)
        if values is not None and len(values) not in (1, len(spec.layers)):
            raise UserError(
                f"{name} has {len(values)} values for {len(spec.layers)} depths; give one for all, or one for each."
            )


def check_seeds(spec: CompareConfig) -> None:
    """Refuse numbers of seeds that do not fit one another.

    Raises:
        UserError: which, and what to give.
    """
    if spec.until_decided and spec.max_seeds < spec.seeds:
        raise UserError(f"max_seeds={spec.max_seeds} is below seeds={spec.seeds}; give as many or more.")
    if spec.pick == "best" and len(spec.learning_rates) > 1 and spec.seeds <= spec.tuning_seeds:
        raise UserError(
            f"seeds={spec.seeds} leaves none to judge by: the first {spec.tuning_seeds} choose the learning rate "
            "(tuning_seeds); give more seeds."
        )


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
