"""The questions that a comparison answers, each in a sentence with its figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from addnorm.studies.aggregate import Group, at_best_rate
from addnorm.studies.decision import BETTER, EQUAL, NOT_DECIDED, WORSE, Decision, decide
from addnorm.studies.measured import Measured
from addnorm.studies.spec import CompareConfig
from addnorm.studies.statistics import Estimate, estimate, paired_difference
from addnorm.studies.verdict import DOES_NOT_TRAIN, NOT_ASKED, TOO_SHORT, beside, with_interval

PLAIN, PRE_NORM = "plain", "pre-norm"
# Schemes that differ in where the norms stand and in nothing else.
NORM_PLACES = ("pre-norm", "post-norm", "pre-post-norm", "peri-norm", "sandwich-norm", "res-post-norm")

Answer = dict[str, Any]
Losses = Callable[[Measured], dict[int, float]]


def answers(spec: CompareConfig, groups: Sequence[Group]) -> list[Answer]:
    """All questions, also those that this comparison does not ask."""
    return [
        _residuals(groups, spec),
        *(_trains(group) for group in groups),
        *(_best(group, "equal tokens", spec) for group in groups),
        *(_best(group, "equal time", spec) for group in groups),
        _norm_place(groups, spec),
    ]


def _residuals(groups: Sequence[Group], spec: CompareConfig) -> Answer:
    """Plain against pre-norm, from the shallow depth to the deep one."""
    question = "Do shallow nets need residuals?"
    pairs = {}
    for group in sorted(groups, key=_layers):
        plain, pre = _at_best_rate(group, PLAIN, spec), _at_best_rate(group, PRE_NORM, spec)
        if plain is None or pre is None:
            return _answer(question, f"{NOT_ASKED}: it needs the schemes {PLAIN} and {PRE_NORM}.", {})
        difference = paired_difference(_at_tokens(group)(plain), _at_tokens(group)(pre))
        pairs[_layers(group)] = (group, plain, pre, difference)
    decisions = decide({layers: pair[3] for layers, pair in pairs.items()}, spec.margin, error=spec.error)
    sentences, figures = [], {}
    for layers, (group, plain, pre, difference) in pairs.items():
        sentences.append(f"at {_depth(group)} {_need((plain, pre), difference, decisions[layers], group)}")
        figures[str(_layers(group))] = {
            "plain": _loss(plain, group).as_dict(),
            "pre_norm": _loss(pre, group).as_dict(),
            "difference": None if difference is None else difference.as_dict(),
            "plain_trains": plain.trains(),
            "pre_norm_trains": pre.trains(),
        }
    return _answer(question, "; ".join(sentences), figures)


def _need(pair: tuple[Measured, Measured], difference: Estimate | None, decision: Decision, group: Group) -> str:
    """Whether one depth trains without skips, and what skips are worth there."""
    plain, pre = pair
    losses = f"{PLAIN} {_loss(plain, group).mean:.3f}, {PRE_NORM} {_loss(pre, group).mean:.3f} nats a token"
    if not pre.trains():
        return f"{PRE_NORM} itself {_unseen(pre)} ({losses}), which answers nothing"
    if plain.is_too_short():
        return f"not decided: too short to tell whether it trains without skips ({losses})"
    if not plain.trains():
        return f"yes: without skips the net does not train ({losses})"
    if difference is None:
        return f"not decided: no seed has both ({losses})"
    if decision.word == NOT_DECIDED:
        more = "" if decision.seeds is None else f"; about {decision.seeds} seeds would decide it"
        return f"not decided: it trains without skips, {PLAIN} {beside(difference, PRE_NORM)}{more}"
    figure = f"{losses}, difference {with_interval(difference, signed=True)}"
    if decision.word == EQUAL:
        return f"no: it trains without skips, and equally well within the margin ({figure})"
    worth = "they lower the loss" if decision.word == WORSE else "they raise the loss"
    return f"it trains without skips, but {worth} ({figure})"


def _trains(group: Group) -> Answer:
    """Which schemes train, and which do not."""
    good = [item for item in group.members if item.trains()]
    short = [item for item in group.members if item.is_too_short()]
    bad = [item for item in group.members if item.records and item not in (*good, *short)]
    unknown = [item for item in group.members if not item.records]
    text = f"{_names(good, group)} train" if good else "none was seen to train"
    if bad:
        text += f"; {_names(bad, group)} {'does' if len(bad) == 1 else 'do'} not"
    if short:
        text += f"; too short to tell for {_names(short, group)}"
    if unknown:
        text += f"; no run of {_names(unknown, group)} ended"
    rates = ", ".join(f"{rate:g}" for rate in sorted({item.arm.learning_rate for item in group.members}))
    figures = {item.arm.id: _loss(item, group).as_dict() for item in group.members}
    return _answer(f"Which schemes train at {_depth(group)}?", f"{text} (learning rate {rates})", figures)


def _best(group: Group, where: str, spec: CompareConfig) -> Answer:
    """The arm of least mean loss, and which others are worse.

    The best is chosen by the same losses: so that it may be any, all pairs of arms are one family.
    """
    losses = _at_tokens(group) if where == "equal tokens" else _at_time(group)
    place = f"{group.tokens:,.0f} tokens" if where == "equal tokens" else f"{group.mean_wall_s:.1f} s of training"
    question = f"Which scheme is best at {_depth(group)} at {where}?"
    means = {item.arm.id: estimate(list(losses(item).values())) for item in group.members if item.trains()}
    trained = [item for item in group.members if item.arm.id in means and math.isfinite(means[item.arm.id].mean)]
    if len(trained) < 2:
        return _answer(question, f"{NOT_ASKED}: fewer than two arms train there.", {})
    first, *others = sorted(trained, key=lambda item: means[item.arm.id].mean)
    differences = {item.arm.id: paired_difference(losses(item), losses(first)) for item in others}
    decisions = decide(differences, spec.margin, error=spec.error, family=_pairs(trained))
    text = f"{_name(first, group)}, {with_interval(means[first.arm.id])} nats a token after {place}"
    equal, ahead = f"equal within {spec.margin:g}", "ahead on the seeds that both have"
    for words, word in ((equal, EQUAL), (NOT_DECIDED, NOT_DECIDED), (ahead, BETTER), (WORSE, WORSE)):
        found = [item for item in others if decisions[item.arm.id].word == word]
        text += f"; {words}: {_names(found, group)}" if found else ""
    figures = {
        "best": first.arm.id,
        "loss": {key: value.as_dict() for key, value in means.items()},
        "difference_to_best": {key: value.as_dict() for key, value in differences.items() if value is not None},
    }
    return _answer(question, text, figures)


def _pairs(items: Sequence[Measured]) -> int:
    return len(items) * (len(items) - 1) // 2


def _norm_place(groups: Sequence[Group], spec: CompareConfig) -> Answer:
    """The order of the schemes that differ only in where their norms stand."""
    question = "Where should the norm go?"
    sentences, figures = [], {}
    for group in sorted(groups, key=_layers):
        found = [item for name in NORM_PLACES if (item := _at_best_rate(group, name, spec)) is not None]
        if len(found) < 2:
            return _answer(question, f"{NOT_ASKED}: it needs two of {', '.join(NORM_PLACES)}.", {})
        losses = _at_tokens(group)
        ranked = sorted(found, key=lambda item: (not item.trains(), estimate(list(losses(item).values())).mean))
        first, *others = ranked
        differences = {item.arm.id: paired_difference(losses(item), losses(first)) for item in others if item.trains()}
        family = _pairs(ranked) * len(groups)
        decisions = decide(differences, spec.margin, error=spec.error, family=family)
        placed = [_placed(item, differences, decisions) for item in others]
        start = f"{first.arm.scheme} {estimate(list(losses(first).values())).mean:.3f}"
        if not first.trains():
            start = f"{first.arm.scheme} {_unseen(first)}"
        sentences.append(f"at {_depth(group)}: {', '.join([start, *placed])}")
        figures[str(_layers(group))] = {item.arm.scheme: _loss(item, group).as_dict() for item in ranked}
    return _answer(question, "; ".join(sentences), figures)


def _placed(item: Measured, differences: dict[str, Estimate | None], decisions: dict[str, Decision]) -> str:
    """One place in the order, with its distance to the first."""
    if not item.trains():
        return f"{item.arm.scheme} {_unseen(item)}"
    difference = differences[item.arm.id]
    if difference is None:
        return f"{item.arm.scheme} without a common seed"
    return f"{item.arm.scheme} {with_interval(difference, signed=True)}, {decisions[item.arm.id].word}"


def _unseen(item: Measured) -> str:
    """What is said of an arm that was not seen to train."""
    return f"was {TOO_SHORT}" if item.is_too_short() else DOES_NOT_TRAIN


def _at_best_rate(group: Group, scheme: str, spec: CompareConfig) -> Measured | None:
    """A scheme of the catalogue with its default fields, at the learning rate that suits it best."""
    found = [item for item in group.members if item.arm.scheme == scheme and item.records]
    return at_best_rate(found, scheme, spec) if found else None


def _at_tokens(group: Group) -> Losses:
    return lambda item: item.losses_at_tokens(group.tokens)


def _at_time(group: Group) -> Losses:
    return lambda item: item.losses_at_time(group.wall_s)


def _loss(item: Measured, group: Group) -> Estimate:
    return estimate(list(item.losses_at_tokens(group.tokens).values()))


def _layers(group: Group) -> int:
    return group.members[0].arm.layers


def _depth(group: Group) -> str:
    return f"{_layers(group)} {'layer' if _layers(group) == 1 else 'layers'}"


def _name(item: Measured, group: Group) -> str:
    """The scheme; with its learning rate where the depth has several."""
    several = len({other.arm.learning_rate for other in group.members}) > 1
    return f"{item.arm.scheme} at {item.arm.learning_rate:g}" if several else item.arm.scheme


def _names(items: Sequence[Measured], group: Group) -> str:
    return ", ".join(_name(item, group) for item in items)


def _answer(question: str, text: str, figures: dict[str, Any]) -> Answer:
    text = text if text.endswith(".") else f"{text}."
    return {"question": question, "answer": text[0].upper() + text[1:], "figures": figures}
