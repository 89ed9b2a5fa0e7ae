"""Which specifications of a comparison are allowed; imports nothing heavy."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from addnorm import schemes
from addnorm.checks import check_at_least, check_types
from addnorm.errors import UserError, unknown

if TYPE_CHECKING:
    from addnorm.studies.spec import CompareConfig

MOST_SEEDS = 1000


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
    check_types(spec)
    if not all(isinstance(scheme, str) for scheme in (*spec.schemes, spec.baseline)):
        raise UserError("schemes holds what is no text; give names of `addnorm schemes`.")
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


def check_numbers(spec: CompareConfig) -> None:
    """Refuse numbers out of range; a RunConfig refuses the others.

    Raises:
        UserError: which one, and what is allowed.
    """
    for name, low in (("layers", 1), ("tokens", 1), ("steps", 1), ("seconds", 0.1), ("learning_rates", 0)):
        for value in getattr(spec, name) or ():
            check_at_least(name, value, low)
    for name in ("seeds", "max_seeds", "tuning_seeds"):
        check_at_least(name, getattr(spec, name), 1)
        if getattr(spec, name) > MOST_SEEDS:
            raise UserError(f"{name}={getattr(spec, name)} is not allowed; use {MOST_SEEDS} or fewer.")
    for name in ("margin", "score_margin"):
        check_at_least(name, getattr(spec, name), 0)
    if not 0 < spec.error < 1:
        raise UserError(f"error={spec.error} is not allowed; use a number between 0 and 1, such as 0.05.")
    if spec.until_decided and spec.max_seeds < spec.seeds:
        raise UserError(f"max_seeds={spec.max_seeds} is below seeds={spec.seeds}; give as many or more.")
    if spec.pick == "best" and len(spec.learning_rates) > 1 and spec.seeds <= spec.tuning_seeds:
        raise UserError(
            f"seeds={spec.seeds} leaves none to judge by: the first {spec.tuning_seeds} choose the learning rate "
            "(tuning_seeds); give more seeds."
        )
    for rate in filter(math.isinf, spec.learning_rates):
        raise UserError(f"learning_rates={rate} is not allowed; use a finite number.")
    for name, value in (
        *(("layers", n) for n in spec.layers),
        *(("tokens", n) for n in spec.tokens),
        *(("steps", n) for n in spec.steps or ()),
        *((name, getattr(spec, name)) for name in ("seeds", "max_seeds", "tuning_seeds")),
    ):
        if not isinstance(value, int):
            raise UserError(f"{name}={value} is not allowed; use a whole number.")
    if spec.workers is not None:
        check_at_least("workers", spec.workers, 1)
    if spec.pick not in ("each", "best"):
        raise unknown("pick", str(spec.pick), ("each", "best"))


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
