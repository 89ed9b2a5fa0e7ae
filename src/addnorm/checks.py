"""What a value must be, as checks and as types of fields; each check says what came and what is allowed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from addnorm.errors import UserError, unknown

MOST_LAYERS = 10_000
"""Ten times the deepest Transformer there is; each layer costs a few milliseconds before anything can be refused."""


def check_at_least(name: str, value: float, low: float) -> None:
    """Refuse a number below its least value.

    Raises:
        UserError: the value is too low, or not a number.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= low:
        raise UserError(f"{name}={value} is not allowed; use {low} or more.")


def check_count(name: str, value: int) -> None:
    """Refuse what is not a whole number from 1.

    Raises:
        UserError: the value is less, or no whole number.
    """
    check_at_least(name, value, 1)
    if not isinstance(value, int):
        raise UserError(f"{name}={value} is not allowed; use a whole number from 1.")


def check_positive(name: str, value: float) -> None:
    """Refuse a number that is not finite and above zero.

    Raises:
        UserError: the value is zero, negative, infinite or not a number.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise UserError(f"{name}={value} is not allowed; use a finite number above 0.")


def check_finite(name: str, value: float) -> None:
    """Refuse what is not a finite number.

    Raises:
        UserError: the value is infinite or not a number.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < float("inf"):
        raise UserError(f"{name}={value} is not allowed; use a finite number.")


def check_probability(name: str, value: float) -> None:
    """Refuse a probability outside [0, 1).

    Raises:
        UserError: the value is outside.
    """
    if not isinstance(value, (int, float)) or not 0.0 <= value < 1.0:
        raise UserError(f"{name}={value} is not allowed; use a probability from 0 to below 1.")


def check_whole(name: str, value: int) -> None:
    """Refuse what is not a whole number from 0.

    Raises:
        UserError: the value is less, or no whole number.
    """
    check_not_negative(name, value)
    if not isinstance(value, int):
        raise UserError(f"{name}={value} is not allowed; use a whole number from 0.")


def check_not_negative(name: str, value: float) -> None:
    """Refuse what is not a finite number from 0.

    Raises:
        UserError: the value is less, infinite or not a number.
    """
    check_at_least(name, value, 0)
    check_finite(name, value)


def check_depth(name: str, value: int) -> None:
    """Refuse a number of layers below 1 or beyond all use.

    Raises:
        UserError: with what is allowed.
    """
    check_count(name, value)
    if value > MOST_LAYERS:
        raise UserError(f"{name}={value} is not allowed; use {MOST_LAYERS} or fewer.")


def check_seconds(name: str, value: float) -> None:
    """Refuse a time that no step fits in, and one without end.

    Raises:
        UserError: with what is allowed.
    """
    check_at_least(name, value, 0.1)
    check_finite(name, value)


def check_seed(name: str, value: int) -> None:
    """Refuse what torch cannot be seeded with.

    Raises:
        UserError: with what is allowed.
    """
    check_whole(name, value)
    if value >= 2**63:
        raise UserError(f"{name}={value} is not allowed; use a whole number from 0 to below 2^63.")


Count = Annotated[int, check_count]
Whole = Annotated[int, check_whole]
Depth = Annotated[int, check_depth]
Seed = Annotated[int, check_seed]
NotNegative = Annotated[float, check_not_negative]
Positive = Annotated[float, check_positive]
Probability = Annotated[float, check_probability]
Seconds = Annotated[float, check_seconds]


def check_fields(config: Any) -> None:
    """Refuse values of a dataclass that its fields' types do not allow, as a damaged or foreign JSON has them.

    Checked are texts, switches, choices (`Literal`) and types with a check (`Count`), in a tuple item by item.

    Raises:
        UserError: which field, and what it takes.
    """
    for name, check in _checks(type(config)).items():
        value = getattr(config, name)
        for item in value if isinstance(value, tuple) else (value,):
            check(name, item)


@cache
def _checks(owner: type) -> dict[str, Callable[[str, Any], None]]:
    """By field; a field that may be None is not checked where it is."""
    found = {name: _check_of(hint) for name, hint in get_type_hints(owner, include_extras=True).items()}
    return {name: check for name, check in found.items() if check is not None}


def _check_of(hint: Any) -> Callable[[str, Any], None] | None:
    """What a type asks of a value; None where it asks nothing."""
    kinds, origin = get_args(hint), get_origin(hint)
    if origin in (Union, UnionType):
        checks = [_check_of(kind) for kind in kinds if kind is not NoneType]
        return partial(_check_optional, checks[0]) if len(checks) == 1 and checks[0] and NoneType in kinds else None
    if origin is Annotated:
        return kinds[1]
    if origin is tuple:
        return _check_of(kinds[0])
    if origin is Literal:
        return partial(_check_choice, kinds)
    return {str: _check_text, bool: _check_switch}.get(hint)


def _check_optional(check: Callable[[str, Any], None], name: str, value: Any) -> None:
    if value is not None:
        check(name, value)


def _check_choice(allowed: tuple[str, ...], name: str, value: Any) -> None:
    _check_text(name, value)
    if value not in allowed:
        raise unknown(name, value, allowed)


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise UserError(f"{name}={value!r:.60} is not allowed; use a text.")


def _check_switch(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise UserError(f"{name}={value!r:.60} is not allowed; use true or false.")


def check_attention(attention: str, window: int | None, dropout: float) -> None:
    """Refuse a window that is missing or has no meaning, and dropout of weights that do not exist.

    Raises:
        UserError: with what to give.
    """
    if attention == "sliding-window" and window is None:
        raise UserError(
            "sliding-window attention needs a window, the tokens that each token sees; give for example window=128."
        )
    if attention != "sliding-window" and window is not None:
        raise UserError(
            f"window={window} has no meaning for {attention} attention; give attention='sliding-window' or no window."
        )
    if window is not None:
        check_count("window", window)
    if attention == "linear" and dropout:
        raise UserError(
            f"attention dropout of {dropout} is not allowed: linear attention holds no weights to drop; "
            "give 0 and use dropout, which is on the sublayers' outputs."
        )


def check_heads(d_model: int, num_heads: int, num_kv_heads: int) -> None:
    """Refuse head counts that do not divide.

    Raises:
        UserError: with the divisors that would fit.

    >>> check_heads(512, 6, 6)
    Traceback (most recent call last):
    addnorm.errors.UserError: num_heads=6 does not divide d_model=512; use 4 or 8.
    """
    if num_heads < 1 or d_model % num_heads:
        fitting = _divisors(d_model)
        raise UserError(f"num_heads={num_heads} does not divide d_model={d_model}; use {_nearest(fitting, num_heads)}.")
    if num_kv_heads < 1 or num_heads % num_kv_heads:
        fitting = _divisors(num_heads)
        raise UserError(
            f"num_kv_heads={num_kv_heads} does not divide num_heads={num_heads}; use {_nearest(fitting, num_kv_heads)}."
        )


def _divisors(number: int) -> list[int]:
    """The divisors up to 4096, and the number itself: all that one would use, at once for an absurd number too."""
    return [n for n in (*range(1, min(number, 4097)), number) if number % n == 0]


def _nearest(fitting: list[int], came: int) -> str:
    """The next smaller and the next larger number that fit."""
    below = [n for n in fitting if n < came][-1:]
    above = [n for n in fitting if n > came][:1]
    return " or ".join(map(str, below + above))
