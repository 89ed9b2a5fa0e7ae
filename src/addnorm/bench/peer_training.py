"""Training steps beside those of peers."""

from __future__ import annotations

from addnorm.bench.alternation import alternate, ratio
from addnorm.bench.language_models import Precision, Size, our_model, our_step, peers, their_step
from addnorm.bench.peers import TRANSFORMERS, X_TRANSFORMERS, missing
from addnorm.bench.row import Figure, Goal, OnProgress, Result, Times

OURS = "addnorm"


def against_peers(size: Size, precision: Precision, goal: Goal, rounds: int, progress: OnProgress) -> Result:
    """Our tokens a second over each peer's: their time over ours, round by round."""
    arms = {OURS: our_step(our_model(size), size, precision)}
    arms |= {name: their_step(model, size, precision) for name, model in peers(size).items()}
    times = alternate(arms, rounds, progress)
    figures = [
        ratio(f"d={size.d_model}, over {name}", times[name], times[OURS], goal) for name in times if name != OURS
    ]
    return Result(
        figures=tuple(figures),
        rounds={f"d={size.d_model}, {name}": arm for name, arm in times.items()},
        missing=missing((X_TRANSFORMERS, TRANSFORMERS)),
    )


def joined(results: list[Result]) -> Result:
    """Several measurements as one."""
    figures: list[Figure] = []
    rounds: dict[str, Times] = {}
    for result in results:
        figures += result.figures
        rounds |= result.rounds
    missed = dict.fromkeys(note for result in results for note in result.missing)
    return Result(figures=tuple(figures), rounds=rounds, missing=tuple(missed))
