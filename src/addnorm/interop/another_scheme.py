"""A scheme for weights that were trained under another: with their kind and eps of norms, where it has the choice."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from addnorm import schemes
from addnorm.errors import UserError
from addnorm.layers.norm import EPS
from addnorm.residual import Scheme
from addnorm.specification import parts

EPS_OF_THE_NORMS = ("beam", "gemma-laurel", "gpt2-init", "muse-spark", "post-norm", "pre-norm")
"""Schemes whose field `eps` is that of their norms; in others it is added to something else."""
_KINDS = ("layer", "rms")


def as_trained(text: str, trained: str) -> str:
    """A scheme's specification with what it leaves open as weights were trained: kind and eps of the norms.

    The same scheme takes over every field that is left open.

    Args:
        text: the specification that the user gave; what it says stays.
        trained: that of the weights.

    >>> as_trained("mhc", "pre-norm(norm=rms, eps=1e-06)")
    'mhc(norm=rms)'
    >>> as_trained("post-norm", "post-norm(entrance_norm=layer, eps=1e-12)")
    'post-norm(entrance_norm=layer, eps=1e-12)'
    """
    return schemes.format(_completed(schemes.parse(text), text, schemes.parse(trained)))


def eps_of(scheme: Scheme) -> float:
    """What a scheme's norms add to a variance or a mean square."""
    inner = getattr(scheme, "inner", None)
    if isinstance(inner, Scheme):
        return eps_of(inner)
    return getattr(scheme, "eps", EPS) if schemes.name_of(scheme) in EPS_OF_THE_NORMS else EPS


def _completed(scheme: Scheme, text: str, trained: Scheme) -> Scheme:
    given = {key.strip(): value for key, _, value in (part.partition("=") for part in parts("scheme", text)[1])}
    for field in fields(scheme):
        name, value = field.name, getattr(scheme, field.name)
        if isinstance(value, Scheme):
            scheme = _with(scheme, name, _completed(value, given.get(name, schemes.name_of(value)), trained))
        elif field.init and name not in given:
            scheme = _with(scheme, name, _wanted(scheme, name, trained))
    return scheme


def _wanted(scheme: Scheme, name: str, trained: Scheme) -> Any:
    """The value that a field should have."""
    value = getattr(scheme, name)
    if type(scheme) is type(trained):
        return getattr(trained, name)
    if name == "norm" and value in _KINDS and trained.norm in _KINDS:
        return trained.norm
    if name == "eps" and schemes.name_of(scheme) in EPS_OF_THE_NORMS:
        return eps_of(trained)
    return value


def _with(scheme: Scheme, name: str, value: Any) -> Scheme:
    """With another value of a field, where the scheme allows it."""
    try:
        return replace(scheme, **{name: value})  # pyrefly: ignore[bad-argument-type]
    except UserError:
        return scheme
