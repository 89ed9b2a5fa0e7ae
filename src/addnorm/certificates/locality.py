"""Who sees whom: tokens, rows of a batch, a cache."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from addnorm.certificates.certificate import Finding, judged, not_applicable
from addnorm.certificates.drawn_numbers import move_, noise, projected, relative
from addnorm.certificates.subject import BATCH, TOKENS, Body, Subject
from addnorm.layers.cache import KVCache

# float64 sums of some hundred terms, taken in another order at most; a leak is of the size of the numbers themselves.
TOLERANCE = 1e-10
MODES = {"evaluation": False, "training": True}


def causal(subject: Subject) -> Finding:
    """Another last token changes no earlier output, and sends them no gradient; in evaluation and in training."""
    if not subject.causal:
        return not_applicable("causal", "it was said to let tokens see later ones.")
    body, x = _moved(subject, training=False)
    if _run(body, x).shape[:2] != x.shape[:2]:
        return not_applicable("causal", "it has one output a row, not one a token.")
    figures = {}
    for mode, training in MODES.items():
        body, x = _moved(subject, training)
        changed = x.clone()
        changed[:, -1] = noise(changed[:, -1].shape, "changed")
        leak = relative(_run(body, changed)[:, :-1], _run(body, x)[:, :-1])
        figures[mode] = max(leak, _gradient_beyond(body, x, (slice(None), slice(TOKENS // 2)), _later))
    return _of_leak("causal", figures, "no output depends on a later token", "an output depends on later tokens")


def batch_independent(subject: Subject) -> Finding:
    """Another first row changes no other row, and sends them no gradient; in evaluation and in training."""
    figures = {}
    for mode, training in MODES.items():
        body, x = _moved(subject, training)
        changed = x.clone()
        changed[0] = noise(changed[0].shape, "changed")
        leak = relative(_run(body, changed)[1:], _run(body, x)[1:])
        figures[mode] = max(leak, _gradient_beyond(body, x, (slice(1),), lambda gradient: gradient[1:]))
    return _of_leak(
        "batch-independent", figures, "no row depends on another one", "a row depends on other rows of its batch"
    )


def cached(subject: Subject) -> Finding:
    """Token by token with a cache, and all at once."""
    name = "cached = uncached"
    if subject.scheme is None:
        return not_applicable(name, "how a module is told of a cache is its own affair.")
    body, x = _moved(subject, training=False)
    cache = KVCache()
    steps = [body(x[:, :2], cache), *(body(x[:, t : t + 1], cache) for t in range(2, TOKENS))]
    figure = relative(torch.cat(steps, dim=1), body(x))
    return judged(name, figure <= TOLERANCE, figure, f"token by token and all at once differ by {figure:.1e}.")


def _moved(subject: Subject, training: bool) -> tuple[Body, Tensor]:
    body = subject.body()
    move_(body.module)
    body.module.train(training)
    return body, noise((BATCH, TOKENS, body.d_model), "embedding")


def _run(body: Body, x: Tensor) -> Tensor:
    """The output, with the same random stream each time: dropout, stochastic depth."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return body(x)


def _gradient_beyond(body: Body, x: Tensor, part: tuple[slice, ...], beyond: Callable[[Tensor], Tensor]) -> float:
    """The gradient that a part of the output sends to inputs outside it, relative to the whole."""
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(projected(_run(body, x)[part]), x)
    outside = beyond(gradient)
    return float(outside.abs().max() / gradient.abs().max().clamp_min(1e-30))


def _later(gradient: Tensor) -> Tensor:
    return gradient[:, TOKENS // 2 :]


def _of_leak(name: str, figures: dict[str, float], right: str, wrong: str) -> Finding:
    figure = max(figures.values())
    if figure <= TOLERANCE:
        return judged(name, True, figure, f"{right}, in value and in gradient, in evaluation and in training.")
    where = " and ".join(f"{size:.1e} in {mode}" for mode, size in figures.items() if size > TOLERANCE)
    return judged(name, False, figure, f"{wrong}: a relative change of {where}.")
