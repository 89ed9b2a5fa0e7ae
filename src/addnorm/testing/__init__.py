"""The laws that every residual scheme passes, for a test suite of your own.

    from addnorm.testing import check_scheme

    def test_mine():
        check_scheme(Mine(alpha=0.3))

Needs no pytest; where it runs, the laws' assertions say what they compared.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from inspect import getdoc, getmembers, isfunction

import torch

from addnorm import schemes
from addnorm.errors import UserError, unknown
from addnorm.residual import Scheme

_MODULES = tuple(f"{__name__}.{name}" for name in ("laws", "laws_of_form", "laws_of_derivatives", "laws_of_numbers"))
if "pytest" in sys.modules:  # before they are imported
    sys.modules["pytest"].register_assert_rewrite(*_MODULES)

from addnorm.testing import laws, laws_of_derivatives, laws_of_form, laws_of_numbers  # noqa: E402

LAWS: dict[str, Callable[[Scheme], None]] = {
    name: law
    for module in (laws, laws_of_form, laws_of_derivatives, laws_of_numbers)
    for name, law in getmembers(module, isfunction)
    if law.__module__ == module.__name__ and not name.startswith("_")
}
"""Every law by its name, such as `the_future_does_not_leak`: takes a scheme, raises where it does not hold."""


def check_scheme(scheme: Scheme, *, skip: Iterable[str] = ()) -> None:
    """Try every law on a scheme; what torch draws at random elsewhere stays as it was.

    Args:
        scheme: yours, with the fields that are to be tried.
        skip: names of `LAWS` that your scheme is not to hold.

    Raises:
        AssertionError: a law does not hold; names each that does not, what it says and what was found.
        UserError: it is no scheme, or there is no law of a name.
    """
    skip = set(skip)
    for name in skip - LAWS.keys():
        raise unknown("law", name, LAWS)
    if not isinstance(scheme, Scheme):
        raise UserError(f"{scheme!r} is no scheme; give an object of yours, such as Mine().")
    if not __debug__:
        raise UserError("python -O takes assertions out, and laws are assertions; run python without -O.")
    broken = {name: error for name, law in LAWS.items() if name not in skip and (error := _broken(law, scheme))}
    if broken:
        found = "\n".join(f"  {name}: {_said(LAWS[name], error)}" for name, error in broken.items())
        text = f"{schemes.format(scheme)} breaks {len(broken)} of {len(LAWS) - len(skip)} laws\n{found}"
        raise AssertionError(text) from next(iter(broken.values()))


def _broken(law: Callable[[Scheme], None], scheme: Scheme) -> Exception | None:
    try:
        with torch.random.fork_rng(devices=[]):
            law(scheme)
    except Exception as error:  # a scheme may fail in any way
        return error
    return None


def _said(law: Callable[[Scheme], None], error: Exception) -> str:
    """What a law says, and in a line what was found instead."""
    came = " ".join(f"{type(error).__name__}: {error}".split())
    return f"{(getdoc(law) or '').splitlines()[0]}\n    {came[:300]}"
