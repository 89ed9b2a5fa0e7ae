"""Naming what is wrong: the faults that public implementations have shipped, each recognised by its behaviour."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import fields, replace

import torch
from torch import Tensor, nn

from addnorm import schemes
from addnorm.certificates.certificate import Finding, judged, not_applicable
from addnorm.certificates.drawn_numbers import copy_numbers_, relative
from addnorm.certificates.equivalence import single_stream
from addnorm.certificates.recovery import norms_of
from addnorm.certificates.sides import SAME, Comparison, Pair, cumulated, difference, is_history, side_of
from addnorm.certificates.subject import Subject
from addnorm.residual import Scheme

NAMES = ("mixing", "write gate", "sources", "norm placement", "same function")


def faults(comparison: Comparison, subject: Subject, reference: Subject) -> list[Finding]:
    """One finding for each of `NAMES`."""
    assert reference.scheme is not None
    if comparison.problem:
        same = judged("same function", False, None, f"cannot be {reference.text}: {comparison.problem}.")
        return [*(not_applicable(name, "the two cannot be set side by side.") for name in NAMES[:-1]), same]
    parts = [
        mixing(comparison.pairs),
        write_gate(comparison.pairs),
        sources(comparison.pairs),
        norm_placement(comparison.pairs, subject, reference.scheme),
    ]
    return [*parts, same_function(comparison, reference.text, parts)]


def mixing(pairs: tuple[Pair, ...]) -> Finding:
    """The matrix that the write applies to the streams: as it should be, transposed, or not there."""
    name = "mixing"
    known = [
        (pair.ours.recovered.mixing, wanted) for pair in pairs if (wanted := pair.theirs.recovered.mixing) is not None
    ]
    if not known:
        return not_applicable(name, "what the reference's write keeps of the state is not linear in it.")
    if any(found is None for found, _ in known):
        return judged(name, False, None, "what the write keeps of the state is not linear in it, and should be.")
    both = [(found, wanted) for found, wanted in known if found is not None]
    figure = max(relative(found, wanted) for found, wanted in both)
    if figure <= SAME:
        return judged(name, True, figure, f"the recovered mixing matrix is the reference's to {figure:.1e}.")
    square = [(found, wanted) for found, wanted in both if wanted.shape[1] == wanted.shape[2] > 1]
    return judged(name, False, figure, f"{_of_mixing(square)}: the matrices differ by {figure:.2g}.")


def write_gate(pairs: tuple[Pair, ...]) -> Finding:
    """The factors by which the update enters the streams."""
    name = "write gate"
    known = [(pair.ours.recovered.gate, wanted) for pair in pairs if (wanted := pair.theirs.recovered.gate) is not None]
    if not known:
        return not_applicable(name, "the reference's write is not linear in the update.")
    if any(found is None for found, _ in known):
        return judged(name, False, None, "the write is not linear in the update, and should be.")
    ours, theirs = (torch.cat([gate.flatten() for gate in gates]) for gates in zip(*known, strict=True))
    figure = relative(ours, theirs)
    if figure <= SAME:
        return judged(name, True, figure, f"the recovered write gates are the reference's to {figure:.1e}.")
    ratio = float(ours @ theirs / theirs.square().sum())
    if relative(ours, ratio * theirs) > SAME:
        return judged(name, False, figure, f"the gates differ by {figure:.2g}, and not by one factor.")
    common = {0.5: "missing factor 2 on the write gate", 2.0: "a factor 2 too many on the write gate"}
    text = next(
        (text for value, text in common.items() if abs(ratio - value) < 1e-6), "another factor on the write gate"
    )
    return judged(name, False, ratio, f"{text}: it is {ratio:.4g} times the reference's.")


def sources(pairs: tuple[Pair, ...]) -> Finding:
    """What a scheme with a history keeps and reads: the sublayers' outputs themselves."""
    name = "sources"
    if not is_history(pairs):
        return not_applicable(name, "the reference keeps no history.")
    figure = max(max(pair.read, pair.write) for pair in pairs)
    if figure <= SAME:
        return judged(name, True, figure, "the history is kept and read as in the reference.")
    if any(_writes_sums(pair) for pair in pairs):
        return judged(
            name, False, figure, "attention over cumulative states: the write keeps sums of outputs, not outputs."
        )
    apart = [pair for pair in pairs if pair.read > SAME]
    if apart and all(_reads_sums(pair) for pair in apart):
        return judged(
            name, False, figure, "attention over cumulative states: the read takes sums of outputs, not outputs."
        )
    return judged(name, False, figure, f"the history is kept or read otherwise: a difference of {figure:.2g}.")


def norm_placement(pairs: tuple[Pair, ...], subject: Subject, reference: Scheme) -> Finding:
    """Which scheme of one stream this is, if it is not the reference; whether a norm has changed sides."""
    name = "norm placement"
    if max(max(pair.read, pair.write) for pair in pairs) <= SAME:
        return judged(name, True, 0.0, "read and write are the reference's.")
    wanted = schemes.name_of(reference)
    found = _computes(pairs, subject, reference)
    if found:
        others = f" (as do {', '.join(found[1:])})" if found[1:] else ""
        return judged(name, False, None, f"computes {found[0]}, not {wanted}{others}.")
    apart = [pair for pair in pairs if pair.read > SAME]
    if apart and all(_reads_bare(pair) for pair in apart):
        where = "it is on the update" if all(_norms_update(pair) for pair in pairs) else "it is nowhere"
        return judged(name, False, None, f"norm on the wrong side: the read is not normalised, {where}.")
    if apart:
        return not_applicable(name, "the read differs by something other than its norm.")
    return not_applicable(name, "the read is the reference's; the write differs by something other than a norm.")


def same_function(comparison: Comparison, text: str, parts: list[Finding]) -> Finding:
    """The largest difference with the same random parameters, and where it is."""
    figures = {
        "read": max(pair.read for pair in comparison.pairs),
        "write": max(pair.write for pair in comparison.pairs),
        "entrance": comparison.entrance,
        "exit": comparison.exit,
        "initial weights": comparison.weights,
    }
    figure = max(figures.values())
    if figure <= SAME:
        return judged("same function", True, figure, f"with the same parameters it is {text}, to {figure:.1e}.")
    where = ", ".join(f"{name} {size:.2g}" for name, size in figures.items() if size > SAME)
    failing = [part.sentence.partition(":")[0].rstrip(".") for part in parts if part.verdict == "fails"]
    named = f": {'; '.join(failing)}" if failing else ""
    return judged("same function", False, figure, f"is not {text}{named}. Differences: {where}.")


def _of_mixing(square: list[tuple[Tensor, Tensor]]) -> str:
    def all_are(made: Callable[[Tensor], Tensor]) -> bool:
        return bool(square) and all(relative(found, made(wanted)) <= SAME for found, wanted in square)

    if all_are(lambda wanted: wanted.mT):
        return "transposed mixing"
    if all_are(lambda wanted: torch.eye(wanted.shape[1], dtype=wanted.dtype).expand_as(wanted)):
        return "mixing never applied"
    return "another mixing"


def _writes_sums(pair: Pair) -> bool:
    """A new entry that should be an output has earlier entries in it."""
    ours, theirs = pair.ours.recovered.mixing, pair.theirs.recovered.mixing
    if ours is None or theirs is None or ours.shape != theirs.shape:
        return False
    new = theirs.abs().amax((0, 2)) <= SAME
    return bool(new.any()) and float(ours[:, new].abs().amax()) > SAME


def _reads_sums(pair: Pair) -> bool:
    summed = side_of(pair.theirs.connection, cumulated(pair.theirs.state), pair.update)
    return relative(pair.ours.read, summed.read) <= SAME


def _computes(pairs: tuple[Pair, ...], subject: Subject, reference: Scheme) -> list[str]:
    """The schemes of one stream whose connections do what the subject's do, the plainest first."""
    state = pairs[0].ours.state
    if not isinstance(state, Tensor) or state.dim() != 3:
        return []
    fitting = []
    for name, scheme in single_stream().items():
        norm_is_free = any(part.name == "norm" and part.init for part in fields(scheme))
        candidate = replace(scheme, norm=reference.norm) if norm_is_free else scheme
        stack = Subject(text=name, scheme=candidate, d_model=state.shape[-1]).stack(len(pairs) // 2).double()
        if all(_does_as(pair, stack.blocks[pair.site].get_submodule("connection")) for pair in pairs):
            fitting.append(name)
    return sorted(fitting, key=_plainness)


def _plainness(name: str) -> tuple[int, int]:
    """By how much is done on the path of a sublayer; a scheme with many options may still do the least."""
    return len(single_stream()[name].diagram.split()), len(name)


def _does_as(pair: Pair, candidate: nn.Module) -> bool:
    if not copy_numbers_(pair.ours.connection, candidate):
        return False
    other = side_of(candidate, pair.ours.state, pair.update)  # pyrefly: ignore[bad-argument-type]
    return max(relative(pair.ours.read, other.read), difference(pair.ours.after, other.after)) <= SAME


def _bare(pair: Pair) -> nn.Module:
    """The reference's connection without its norms."""
    other = copy.deepcopy(pair.theirs.connection)
    for name in norms_of(other):
        setattr(other, name, nn.Identity())
    return other


def _reads_bare(pair: Pair) -> bool:
    other = side_of(_bare(pair), pair.theirs.state, pair.update)  # pyrefly: ignore[bad-argument-type]
    return relative(pair.ours.read, other.read) <= SAME


def _norms_update(pair: Pair) -> bool:
    norms = list(norms_of(pair.theirs.connection).values())
    if len(norms) != 1:
        return False
    with torch.no_grad():
        other = side_of(_bare(pair), pair.theirs.state, norms[0](pair.update))  # pyrefly: ignore[bad-argument-type]
    return difference(pair.ours.after, other.after) <= SAME
