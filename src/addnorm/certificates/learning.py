"""Which parameters get a gradient: before training, after one step, and at all.

Two kinds are named, and are no fault: those of a module that its example does not use (a head, a pooler, a table that
is not asked), and a bias without effect beside a weight that learns, such as that of keys, which softmax cancels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor

from addnorm.certificates.certificate import Finding, judged
from addnorm.certificates.drawn_numbers import each, move_, noise, projected, shaken
from addnorm.certificates.subject import BATCH, TOKENS, Body, Subject, surroundings
from addnorm.config import RunConfig
from addnorm.layers.context import Context
from addnorm.stack import Stack
from addnorm.training.optimizer import Optimizer

NAME = "every parameter learns"
# Of the largest gradient: what rounding leaves in float64 of one that is zero in exact arithmetic is near 1e-16.
ZERO = 1e-12
LEARNING_RATE = RunConfig().learning_rate


def parameters_learn(subject: Subject) -> Finding:
    """How many parameters have a gradient of zero at first and after a step; it fails if one never has another."""
    body = subject.body()
    count = len([p for p in body.module.parameters() if p.requires_grad])
    if not count:
        return judged(NAME, True, 0.0, "there are no parameters.")
    found = _gradients(body)
    unused = {path for path, size in found.items() if size is None} if subject.module is not None else set()
    first = _without(found) - unused
    stepped = subject.body()
    step_(stepped)
    then = _without(_gradients(stepped)) - unused
    dead = _dead(subject) - unused
    idle = _idle_biases(dead, found) if subject.module is not None else set()
    dead -= idle
    text = (
        f"of {count} parameters {len(first)} have no gradient before training{_some(first)}, "
        f"{len(then)} after one step{_some(then)}; "
    )
    end = f"never: {_list(dead)}." if dead else "moved off its initial value, every one has."
    end += f" Not used by this call: {_list(unused)}." if unused else ""
    end += f" Without effect beside a weight that learns: {_list(idle)}." if idle else ""
    return judged(NAME, not dead, float(len(dead)), text + end)


def step_(body: Body) -> None:
    """One step of the trainer's optimizer."""
    gradient_of = _input(body)
    optimizer = Optimizer(body.module, RunConfig())
    projected(body(gradient_of)).backward()
    optimizer.step(LEARNING_RATE)
    optimizer.clear_gradient()
    if isinstance(body.module, Stack):
        body.module.after_step_()


def _input(body: Body) -> Tensor:
    return noise((BATCH, TOKENS, body.d_model), "embedding")


def _gradients(body: Body) -> dict[str, float | None]:
    """The largest entry of each parameter's gradient; None where the output does not come from the parameter."""
    parameters = {path: p for path, p in body.module.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(projected(body(_input(body))), list(parameters.values()), allow_unused=True)
    return {path: None if g is None else float(g.abs().max()) for path, g in zip(parameters, found, strict=True)}


def _without(gradients: Mapping[str, float | None]) -> set[str]:
    largest = max((size or 0.0 for size in gradients.values()), default=0.0)
    return {path for path, size in gradients.items() if (size or 0.0) <= ZERO * largest}


def _idle_biases(dead: set[str], gradients: Mapping[str, float | None]) -> set[str]:
    """Biases among them whose module's weight learns."""
    beside = {path: path.removesuffix("bias") + "weight" for path in dead if path.endswith("bias")}
    return {path for path, weight in beside.items() if weight not in dead and gradients.get(weight)}


def _dead(subject: Subject) -> set[str]:
    """Parameters without a gradient when all are moved; a connection is asked at its site, from a moved state, too.

    A doubly stochastic mixture, for one, has no gradient where all streams are equal, at the entrance.
    """
    body = subject.body()
    move_(body.module)
    dead = _without(_gradients(body))
    if not dead or not isinstance(body.module, Stack):
        return dead
    x = _input(body)
    context = surroundings(x)
    states = body.states(x, context)
    for site, (block, state) in enumerate(zip(body.module.blocks, states, strict=False)):
        block.zero_grad()
        projected(block(shaken(state, f"state/{site}"), _left_behind(context, x))).backward()
        for path, parameter in block.named_parameters():
            if parameter.grad is not None and parameter.grad.abs().max() > ZERO:
                dead.discard(f"blocks.{site}.{path}")
    return dead


def _left_behind(context: Context, x: Tensor) -> Context:
    """What earlier sublayers passed on, without the graph that made it."""
    other = surroundings(x)
    other.rewind({kind: each(Tensor.detach, tensors) for kind, tensors in context.passed.items()})
    return other


def _some(paths: set[str]) -> str:
    """Their last names, the most frequent first."""
    names = Counter(path.rpartition(".connection.")[2] if ".connection." in path else _tail(path) for path in paths)
    shown = [f"{name} ({count})" if count > 1 else name for name, count in names.most_common(3)]
    return f" ({', '.join(shown)}{', ...' if len(names) > 3 else ''})" if shown else ""


def _list(paths: set[str]) -> str:
    shown = [path.removeprefix("module.") for path in sorted(paths)]
    return f"{', '.join(shown[:4])}{f' and {len(shown) - 4} more' if len(shown) > 4 else ''}"


def _tail(path: str) -> str:
    return ".".join(path.split(".")[-2:])
