"""What a subject costs: predicted, and measured beside pre-norm."""

from __future__ import annotations

import copy
import statistics
import time

import torch
from torch import Tensor, nn

from addnorm.certificates.certificate import Finding, judged
from addnorm.certificates.drawn_numbers import noise, projected
from addnorm.certificates.subject import Body, Subject
from addnorm.probes.flops import flops
from addnorm.probes.memory import activation_bytes
from addnorm.schemes.pre_norm import PreNorm

WIDTH, LAYERS, BATCH, TOKENS, REPEATS = 64, 4, 2, 32, 5


def costs(subject: Subject) -> list[Finding]:
    """Parameters, bytes kept for the backward, and time, each against the prediction; float32, 4 layers of width 64."""
    yardstick = Subject(text="pre-norm", scheme=PreNorm(), d_model=subject.width(WIDTH))
    return [_parameters(subject, yardstick), _activations(subject, yardstick), _time(subject, yardstick)]


def _parameters(subject: Subject, yardstick: Subject) -> Finding:
    """Counted on modules without memory, and on real ones."""
    name, measured = "parameters", _count(_body(subject).module)
    if subject.scheme is None:
        return judged(name, True, measured, f"{measured:,} in the module.")
    with torch.device("meta"):
        predicted = _count(copy.deepcopy(subject.connection)) * 2 * LAYERS if subject.connection is not None else 0
        stack = subject.stack(LAYERS, WIDTH)
        if predicted:
            predicted += sum(_count(block.get_submodule("sublayer")) for block in stack.blocks)
            predicted += _count(stack.entrance) + _count(stack.exit)
    predicted = predicted or _count(stack)
    more = measured - _count(_body(yardstick).module)
    text = f"{measured:,} with {LAYERS} layers of width {subject.width(WIDTH)}, predicted {predicted:,}"
    return judged(name, measured == predicted, measured, f"{text}; {more:+,} to pre-norm.")


def _activations(subject: Subject, yardstick: Subject) -> Finding:
    """Counted at 4 layers, and predicted from 1, 2 and 3 by a parabola, since a history grows with the square."""
    name = "activation bytes"
    measured = _bytes(subject, LAYERS)
    if subject.scheme is None:
        return judged(name, True, measured, f"{measured:,} kept for the backward of {BATCH * TOKENS} tokens.")
    one, two, three = (_bytes(subject, layers) for layers in (1, 2, 3))
    predicted = one - 3 * two + 3 * three
    ratio = measured / _bytes(yardstick, LAYERS)
    text = f"{measured:,} kept for the backward of {BATCH * TOKENS} tokens, predicted {predicted:,} from 1 to 3 layers"
    return judged(name, True, measured, f"{text}; {ratio:.2f} times pre-norm's.")


def _time(subject: Subject, yardstick: Subject) -> Finding:
    """The median of forward and backward, the two in turn; predicted by their matrix products."""
    name, bodies = "time", [_body(subject), _body(yardstick)]
    taken: list[list[float]] = [[], []]
    for _ in range(REPEATS):
        for body, times in zip(bodies, taken, strict=True):
            start = time.perf_counter()
            _loss(body.module, body).backward()
            times.append(time.perf_counter() - start)
    ours, theirs = (statistics.median(times[1:]) for times in taken)
    if subject.scheme is None:
        text = f"{1e3 * ours:.1f} ms forward and backward, {ours / theirs:.2f} times {LAYERS} layers of pre-norm."
        return judged(name, True, ours / theirs, text)
    predicted = flops(bodies[0].module, bodies[0], _loss) / flops(bodies[1].module, bodies[1], _loss)
    text = f"{ours / theirs:.2f} times pre-norm's at {1e3 * ours:.1f} ms, {predicted:.2f} times its matrix products"
    return judged(name, True, ours / theirs, f"{text}; small sizes exaggerate.")


def _body(subject: Subject, layers: int = LAYERS) -> Body:
    module = copy.deepcopy(subject.module) if subject.module is not None else subject.stack(layers, WIDTH)
    return Body(module=module.float().eval(), d_model=subject.width(WIDTH))


def _count(module: nn.Module | None) -> int:
    return sum(parameter.numel() for parameter in module.parameters()) if module is not None else 0


def _bytes(subject: Subject, layers: int) -> int:
    body = _body(subject, layers)
    return activation_bytes(body.module, body, _loss)


def _loss(module: nn.Module, body: Body) -> Tensor:
    """A scalar of the body's output; the module is the body's."""
    return projected(body(noise((BATCH, TOKENS, body.d_model), "embedding").float()).double())
