"""What a run's rows say about its health: it trains, or how and where it fails."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Literal

Condition = Literal["trains", "too short to tell", "diverged", "stalled", "vanishing gradients", "exploding gradients"]
Rows = Sequence[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Where health ends.

    Args:
        learned: nats a token that the validation loss must lie below the unigram entropy. The loss of 16 384 held-out
            tokens has a standard error of about 0.01, and a model that has learned no more than which byte follows
            which gains about 0.9: 0.1 is far from both.
        falling: nats a token by which a loss that is not below the unigram entropy by `learned` must have fallen since
            `late` to be on its way still: the run was then too short to tell, and is not called stalled. Near the
            entropy, to which a net that learns nothing more settles from above, it must also fall so fast that as many
            steps again would take it below by `learned`.
        late: the share of a run's steps after which a loss is asked to have stopped falling.
        risen: nats a token by which a final validation loss above its lowest one counts as diverged, if it is above the
            unigram entropy too. Overfitting stays below the unigram entropy.
        fall: factor by which the state's gradient falls on its way down from the exit, in the median of the
            measurements and in the last one. Schemes that train stay within 50 at 24 layers, plain layers reach 1e7.
        rise: the same the other way round. A stream whose size grows with depth raises the gradient towards the
            entrance by as much: 71 for Pre-LN at 24 layers, 920 for the ReLU after the addition, which grows to an RMS
            of 1800.
        weight_floor: norm of a sublayer's weight gradient below which it hardly moves: AdamW's epsilon is 1e-8, and no
            single weight's gradient can then be above it. Looked at after the first step only, and at the largest of
            the measurements: zero-initialised gates start from 0, and stochastic depth drops a sublayer for a step.
        chance_name: what a model is called that knows how often each target comes, and nothing else.
    """

    learned: float = 0.1
    falling: float = 0.02
    late: float = 0.85
    risen: float = 0.5
    fall: float = 1e3
    rise: float = 1e4
    weight_floor: float = 1e-8
    chance_name: str = "unigram entropy"

    def times(self, unit: float) -> Thresholds:
        """The same for a loss of which `unit` counts as a nat."""
        scaled = {name: getattr(self, name) * unit for name in ("learned", "falling", "risen")}
        return replace(self, **scaled)


@dataclass(frozen=True, kw_only=True)
class Trainability:
    """What is wrong with a run, if anything.

    Args:
        kind: one of six.
        site: the sublayer where it begins, 0 at the entrance; None where no place can be named.
        layer: the name of the module or parameter, as far as one is known.
        figure: the number that says so, in words.
    """

    kind: Condition
    site: int | None = None
    layer: str | None = None
    figure: str = ""


def assess(rows: Rows, unigram_entropy: float, thresholds: Thresholds | None = None) -> Trainability:
    """Name what a run suffers from, worst first: diverged, stalled, exploding or vanishing gradients; else it trains.

    A run whose loss is not below the unigram entropy never trains: it stalled, or it was too short to tell, if its loss
    was still falling, or was measured only once.

    Args:
        rows: of metrics.jsonl.
        unigram_entropy: nats a token of a model that knows how often each token comes, and nothing else.
        thresholds: where health ends.

    >>> assess([{"event": "validation", "step": 9, "loss": 2.6}], unigram_entropy=3.3)
    Trainability(kind='trains', site=None, layer=None, figure='validation loss 2.60, unigram entropy 3.30')
    """
    limits = thresholds or Thresholds()
    gradients = _exploding(rows, limits) or _vanishing(rows, limits)
    trains = Trainability(kind="trains", figure=_against(_losses(rows), unigram_entropy, limits))
    return (
        _stopped(rows)
        or _risen(rows, unigram_entropy, limits, gradients)
        or _stalled(rows, unigram_entropy, limits, gradients)
        or gradients
        or trains
    )


def site_of(name: str) -> int | None:
    """The sublayer that a module or parameter belongs to.

    >>> site_of("stack.blocks.3.sublayer.fc1.weight")
    3
    """
    found = re.search(r"(?:^|\.)blocks\.(\d+)(?:\.|$)", name)
    return int(found[1]) if found else None


def _stopped(rows: Rows) -> Trainability | None:
    """The trainer gave up."""
    if not any(row["event"] == "end" and row["status"] == "diverged" for row in rows):
        return None
    back = _of(rows, "rollback")
    if back:
        losses = ", ".join(f"{float(row['loss']):.2f} at step {row['step']}" for row in back)
        return Trainability(kind="diverged", figure=f"went back {len(back)} times after loss spikes: {losses}")
    steps = _of(rows, "skipped")
    while len(steps) > 1 and steps[-1]["step"] - steps[0]["step"] >= len(steps):
        steps = steps[1:]  # an earlier one, from which the run recovered
    layer = steps[0]["layer"]
    figure = (
        f"{len(steps)} steps in a row with a non-finite gradient, from step {steps[0]['step']} on, first in {layer}"
    )
    return Trainability(kind="diverged", site=site_of(layer), layer=layer, figure=figure)


def _risen(rows: Rows, entropy: float, limits: Thresholds, gradients: Trainability | None) -> Trainability | None:
    losses = _losses(rows)
    if not losses or (math.isfinite(losses[-1]) and losses[-1] <= max(entropy, min(losses) + limits.risen)):
        return None
    figure = f"validation loss rose from {min(losses):.2f} to {losses[-1]:.2f}"
    return _beside(Trainability(kind="diverged", figure=figure), gradients)


def _stalled(rows: Rows, entropy: float, limits: Thresholds, gradients: Trainability | None) -> Trainability | None:
    losses = _losses(rows)
    if not losses or losses[-1] < entropy - limits.learned:
        return None
    figure, late = _against(losses, entropy, limits), _late(rows, limits)
    if late is None:
        return _beside(Trainability(kind="too short to tell", figure=f"{figure}, measured once"), gradients)
    fall, share = late
    near = losses[-1] <= entropy + limits.learned
    if fall > limits.falling and (not near or losses[-1] - fall / share < entropy - limits.learned):
        return _beside(Trainability(kind="too short to tell", figure=f"{figure}, and still falling"), gradients)
    return _beside(Trainability(kind="stalled", figure=figure), gradients)


def _late(rows: Rows, limits: Thresholds) -> tuple[float, float] | None:
    """By how much the loss fell at the end, and over which share of the steps; None if it was measured once."""
    measured = _of(rows, "validation")
    if len(measured) < 2:
        return None
    last = measured[-1]
    earlier = [row for row in measured[:-1] if row["step"] <= limits.late * last["step"]]
    since = (earlier or measured[:1])[-1]
    return float(since["loss"]) - float(last["loss"]), 1 - since["step"] / max(last["step"], 1)


def _beside(found: Trainability, gradients: Trainability | None) -> Trainability:
    """The same with what the gradients say: they know the place."""
    if gradients is None:
        return found
    figure = f"{found.figure}; {gradients.kind}: {gradients.figure}"
    return replace(found, site=gradients.site, layer=gradients.layer, figure=figure)


def _exploding(rows: Rows, limits: Thresholds) -> Trainability | None:
    kind: Condition = "exploding gradients"
    skipped = _of(rows, "skipped")
    if skipped:
        layer = skipped[0]["layer"]
        figure = (
            f"{len(skipped)} steps skipped for a non-finite gradient, the first at step {skipped[0]['step']} in {layer}"
        )
        return Trainability(kind=kind, site=site_of(layer), layer=layer, figure=figure)
    profile = _gradient_profile(rows, smaller=True)
    for i in reversed(range(len(profile))):
        if profile[i] > limits.rise:
            figure = f"the state's gradient grows by a factor of {max(profile[: i + 1]):.1e} from the exit down"
            return Trainability(kind=kind, site=i, layer=f"blocks.{i}", figure=figure)
    return None


def _vanishing(rows: Rows, limits: Thresholds) -> Trainability | None:
    kind: Condition = "vanishing gradients"
    profile = _gradient_profile(rows, smaller=False)
    for i in reversed(range(len(profile))):
        if profile[i] * limits.fall < 1:
            bottom = min(profile[: i + 1])
            drop = f"by a factor of {1 / bottom:.1e}" if bottom else "to exactly 0"
            figure = f"the state's gradient falls {drop} from the exit down"
            return Trainability(kind=kind, site=i, layer=f"blocks.{i}", figure=figure)
    weights = _largest_weight_gradients(rows)
    dead = [i for i, norm in enumerate(weights) if norm < limits.weight_floor]
    if not dead:
        return None
    figure = f"{len(dead)} sublayers have a weight gradient of {weights[dead[-1]]:.1e} or less"
    return Trainability(kind=kind, site=dead[-1], layer=f"blocks.{dead[-1]}", figure=figure)


def _gradient_profile(rows: Rows, *, smaller: bool) -> list[float]:
    """The state's gradient at each depth relative to the exit's: the milder of the last measurement and the median.

    Args:
        rows: of metrics.jsonl.
        smaller: whether the smaller of the two is the milder one.
    """
    measured = [_without_frozen(row) for row in _of(rows, "signal")]
    relative = [[norm / norms[-1] for norm in norms] for norms in measured if norms[-1] > 0 and _all_finite(norms)]
    milder = min if smaller else max
    return [milder(column[-1], median(column)) for column in zip(*relative, strict=True)]


def _without_frozen(row: dict[str, Any]) -> list[float]:
    """The state's gradients, the exit's where none is wanted: below the lowest sublayer that is trained."""
    norms, frozen = [float(norm) for norm in row["state_grad_norm"]], 0
    for weights, norm in zip(row["weight_grad_norm"], norms, strict=False):
        if not (math.isnan(float(weights)) and norm == 0):
            break
        frozen += 1
    reached = frozen + (frozen > 0 and norms[frozen] == 0)  # nor does the state that the first trained sublayer reads
    return [norms[-1]] * reached + norms[reached:]


def _largest_weight_gradients(rows: Rows) -> list[float]:
    """Over the measurements after the first step; nan for a sublayer without weights."""
    measured = [row["weight_grad_norm"] for row in _of(rows, "signal") if row["step"] > 0]
    return [max(float(norm) for norm in column) for column in zip(*measured, strict=True)]


def _of(rows: Rows, event: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["event"] == event]


def _losses(rows: Rows) -> list[float]:
    return [float(row["loss"]) for row in _of(rows, "validation")]


def _all_finite(numbers: Sequence[float]) -> bool:
    return all(math.isfinite(number) for number in numbers)


def _against(losses: Sequence[float], entropy: float, limits: Thresholds) -> str:
    digits = 2 if limits.learned >= 0.1 else 4
    if not losses:
        return ""
    return f"validation loss {losses[-1]:.{digits}f}, {limits.chance_name} {entropy:.{digits}f}"
