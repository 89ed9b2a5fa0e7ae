"""Which simpler scheme a subject computes before training, in value and in gradient."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from addnorm import schemes
from addnorm.certificates.certificate import Finding, judged, not_applicable
from addnorm.certificates.drawn_numbers import noise, projected, relative
from addnorm.certificates.subject import BATCH, TOKENS, Body, Subject
from addnorm.layers.initialise import InitRule
from addnorm.residual import Scheme
from addnorm.stack import sites

# Mixing coefficients may carry an eps of 1e-6 against division by zero, once a sublayer; there are 8.
TOLERANCE = 2e-5
LAYERS = 4  # a scheme that begins after the first quarter shows
STARTS: dict[InitRule, float] = {"xavier": 1.0, "normal": 0.02}
"""Initial weights, and the RMS of an embedding that goes with them: beside 0.02 the norms' eps shows."""
NAME = "starts as"
Values = tuple[Tensor, ...]
"""The hidden vectors of each start."""
Outcome = tuple[Values, dict[str, Tensor]]


def starts_as(subject: Subject) -> Finding:
    """Equal to the scheme that it claims, and to which of the schemes with a single stream."""
    if subject.scheme is None:
        return not_applicable(NAME, "a module's sublayers cannot be given to another scheme.")
    claim = subject.scheme.starts_as() if subject.connection is None else None
    ours = _outcome(subject)
    others = _others(subject)
    off = {name: _off(ours[0], _values_of(scheme, subject.width())) for name, scheme in others.items()}
    found = _equal_ones(subject, ours, off)
    also = f" Equal too: {', '.join(found)}." if found else ""
    if claim is not None:
        value, gradient = _differences(ours, _of_scheme(claim, subject.width()))
        text = (
            f"claims to start as {schemes.format(claim)}: differs by {value:.1e} in value, {gradient:.1e} in gradient, "
            f"at embeddings of RMS {' and '.join(f'{size:g}' for size in STARTS.values())}"
        )
        return judged(NAME, max(value, gradient) <= TOLERANCE, max(value, gradient), f"{text}.{also}")
    if found:
        figure = max(found.values())
        return judged(NAME, True, figure, f"before training equal to {', '.join(found)}: differs by {figure:.1e}.")
    return _nearest(off)


def single_stream() -> dict[str, Scheme]:
    """The catalogue's schemes whose state is one vector a token, with their defaults."""
    return {name: _with_defaults(name) for name in schemes.REGISTRY.own if _carries_one(name)}


@cache
def _with_defaults(name: str) -> Scheme:
    return schemes.get(name)()  # by-layer tries both its schemes when it is made


@cache
def _carries_one(name: str) -> bool:
    with torch.device("meta"), torch.no_grad():
        scheme, x = _with_defaults(name), torch.empty(1, 16)
        state = scheme.entrance(16)(x)
        read, skip = (connection := scheme.connection(16, sites(4)[0])).read(state)
        after = connection.write(skip, x)
    return all(isinstance(one, Tensor) and one.shape == x.shape for one in (read, state, after))


def _equal_ones(subject: Subject, ours: Outcome, off: dict[str, float]) -> dict[str, float]:
    """The other schemes of one stream with which value and gradient agree, and their largest difference."""
    near = {name: scheme for name, scheme in _others(subject).items() if off[name] <= TOLERANCE}
    sizes = {name: max(_differences(ours, _of_scheme(scheme, subject.width()))) for name, scheme in near.items()}
    return {name: size for name, size in sizes.items() if size <= TOLERANCE}


def _nearest(off: dict[str, float]) -> Finding:
    name = min(off, key=lambda each: off[each])
    text = f"claims nothing, and differs from all {len(off)} other schemes of one stream"
    if off[name] <= TOLERANCE:
        return not_applicable(NAME, f"{text} in value or in gradient; with {name} it agrees in value alone.")
    return not_applicable(NAME, f"{text}; the nearest in value, {name}, is {off[name]:.1e} off.")


def _others(subject: Subject) -> dict[str, Scheme]:
    """The schemes of one stream that are not the subject itself or its claim, and do not only start as another one."""
    assert subject.scheme is not None
    own = (subject.scheme, subject.scheme.starts_as()) if subject.connection is None else ()
    return {name: scheme for name, scheme in single_stream().items() if scheme not in own and not scheme.starts_as()}


def _off(one: Values, two: Values) -> float:
    return max(relative(value, other) for value, other in zip(one, two, strict=True))


def _differences(one: Outcome, two: Outcome) -> tuple[float, float]:
    """In value, and the largest in a gradient; relative."""
    (values, gradients), (other_values, other_gradients) = one, two
    if gradients.keys() != other_gradients.keys():
        return _off(values, other_values), float("inf")
    # A gradient that is zero in exact arithmetic is compared with the largest of its start, not with itself.
    largest = {
        init: max(float(gradient.abs().max()) for path, gradient in other_gradients.items() if path.startswith(init))
        for init in STARTS
    }
    sizes = [
        float((gradient - other_gradients[path]).abs().max())
        / max(float(other_gradients[path].abs().max()), 1e-9 * largest[_start_of(path)], 1e-30)
        for path, gradient in gradients.items()
    ]
    return _off(values, other_values), max(sizes)


def _start_of(path: str) -> InitRule:
    return next(init for init in STARTS if path.startswith(init))


@cache
def _of_scheme(scheme: Scheme, d_model: int) -> Outcome:
    return _outcome(Subject(text="", scheme=scheme, d_model=d_model))


@cache
@torch.no_grad()
def _values_of(scheme: Scheme, d_model: int) -> Values:
    """The hidden vectors alone, which is all that most candidates are asked for."""
    subject = Subject(text="", scheme=scheme, d_model=d_model)
    return tuple(_hidden(subject.body(LAYERS, init), size) for init, size in STARTS.items())


def _outcome(subject: Subject) -> Outcome:
    """The hidden vectors and the sublayers' gradients before training, of each start."""
    values: list[Tensor] = []
    gradients: dict[str, Tensor] = {}
    for init, size in STARTS.items():
        body = subject.body(LAYERS, init)
        hidden = _hidden(body, size)
        projected(hidden).backward()
        own = {path: p for path, p in body.module.named_parameters() if ".sublayer." in path and ".inside." not in path}
        gradients |= {f"{init} {path}": torch.zeros_like(p) if p.grad is None else p.grad for path, p in own.items()}
        values.append(hidden.detach())
    return tuple(values), gradients


def _hidden(body: Body, size: float) -> Tensor:
    return body(size * noise((BATCH, TOKENS, body.d_model), "embedding"))
