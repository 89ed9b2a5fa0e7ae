"""What a number must be; each check says what came and what is allowed."""

from __future__ import annotations

from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from addnorm.errors import UserError


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


def check_types(config: Any) -> None:
    """Refuse values of a frozen dataclass that are not of their fields' types, as a damaged or foreign JSON has them.

    Texts, switches and None only: each number has a check of its own, which also says what is allowed.

    Raises:
        UserError: which field, and what it takes.
    """
    for name, kind in _texts_and_switches(type(config)).items():
        value = getattr(config, name)
        if not isinstance(value, kind):
            what = "true or false" if bool in kind else "a text"
            raise UserError(f"{name}={value!r:.60} is not allowed; use {what}.")


@cache
def _texts_and_switches(owner: type) -> dict[str, tuple[type, ...]]:
    """The fields that are a text or a switch, with what they may be."""
    found: dict[str, tuple[type, ...]] = {}
    for name, hint in get_type_hints(owner).items():
        kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        plain = tuple(str if get_origin(kind) is Literal else kind for kind in kinds)
        if set(plain) <= {str, bool, NoneType}:
            found[name] = plain
    return found


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
