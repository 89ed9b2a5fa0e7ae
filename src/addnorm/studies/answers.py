"""The questions that a comparison answers, each in a sentence with its figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from addnorm.studies.aggregate import Group
from addnorm.studies.measured import Measured
from addnorm.studies.spec import CompareConfig
from addnorm.studies.statistics import Estimate, estimate, paired_difference
from addnorm.studies.verdict import NO_DIFFERENCE, compared, with_interval

NOT_ASKED = "Not asked by this comparison"
PLAIN, PRE_NORM = "plain", "pre-norm"
# Schemes that differ in where the norms stand and in nothing else.
NORM_PLACES = ("pre-norm", "post-norm", "pre-post-norm", "peri-norm", "sandwich-norm", "res-post-norm")

Answer = dict[str, Any]
Losses = Callable[[Measured], dict[int, float]]


def answers(spec: CompareConfig, groups: Sequence[Group]) -> list[Answer]:
    """All questions, also those that this comparison does not ask."""
    return [
        _residuals(groups),
        *(_trains(group) for group in groups),
        *(_best(group, "equal tokens") for group in groups),
        *(_best(group, "equal time") for group in groups),
        _norm_place(groups),
    ]


def _residuals(groups: Sequence[Group]) -> Answer:
    """Plain against pre-norm, from the shallow depth to the deep one."""
    question = "Do shallow nets need residuals?"
    sentences, figures = [], {}
    for group in sorted(groups, key=_layers):
        plain, pre = _at_best_rate(group, PLAIN), _at_best_rate(group, PRE_NORM)
        if plain is None or pre is None:
            return _answer(question, f"{NOT_ASKED}: it needs the schemes {PLAIN} and {PRE_NORM}.", {})
        difference = paired_difference(_at_tokens(group)(plain), _at_tokens(group)(pre))
        sentences.append(f"at {_depth(group)} {_need(plain, pre, difference, group)}")
        figures[str(_layers(group))] = {
            "plain": _loss(plain, group).as_dict(),
            "pre_norm": _loss(pre, group).as_dict(),
            "difference": None if difference is None else difference.as_dict(),
            "plain_trains": plain.trains(),
            "pre_norm_trains": pre.trains(),
        }
    return _answer(question, "; ".join(sentences), figures)


def _need(plain: Measured, pre: Measured, difference: Estimate | None, group: Group) -> str:
    """Whether one depth trains without skips, and what skips are worth there."""
    losses = f"{PLAIN} {_loss(plain, group).mean:.3f}, {PRE_NORM} {_loss(pre, group).mean:.3f} nats a token"
    if not pre.trains():
        return f"{PRE_NORM} itself does not train ({losses}), which answers nothing"
    if not plain.trains():
        return f"yes: without skips the net does not train ({losses})"
    if difference is None or compared(difference) == NO_DIFFERENCE:
        interval = "" if difference is None else f", difference {with_interval(difference, signed=True)}"
        return f"no: it trains without skips, and no difference is seen ({losses}{interval})"
    worth = "they lower the loss" if difference.mean > 0 else "they raise the loss"
    return f"no: it trains without skips, but {worth} ({losses}, difference {with_interval(difference, signed=True)})"


def _trains(group: Group) -> Answer:
    """Which schemes train, and which do not."""
    good = [item for item in group.members if item.trains()]
    bad = [item for item in group.members if item.records and not item.trains()]
    unknown = [item for item in group.members if not item.records]
    text = f"{_names(good, group) or 'none'} train"
    if bad:
        text += f"; {_names(bad, group)} {'does' if len(bad) == 1 else 'do'} not"
    if unknown:
        text += f"; no run of {_names(unknown, group)} ended"
    rates = ", ".join(f"{rate:g}" for rate in sorted({item.arm.learning_rate for item in group.members}))
    figures = {item.arm.id: _loss(item, group).as_dict() for item in group.members}
    return _answer(f"Which schemes train at {_depth(group)}?", f"{text} (learning rate {rates})", figures)


def _best(group: Group, where: str) -> Answer:
    """The arm of least mean loss, and those whose paired difference to it leaves zero inside."""
    losses = _at_tokens(group) if where == "equal tokens" else _at_time(group)
    place = f"{group.tokens:,.0f} tokens" if where == "equal tokens" else f"{group.mean_wall_s:.1f} s of training"
    question = f"Which scheme is best at {_depth(group)} at {where}?"
    means = {item.arm.id: estimate(list(losses(item).values())) for item in group.members if item.trains()}
    trained = [item for item in group.members if item.arm.id in means and math.isfinite(means[item.arm.id].mean)]
    if len(trained) < 2:
        return _answer(question, f"{NOT_ASKED}: fewer than two arms train there.", {})
    first, *others = sorted(trained, key=lambda item: means[item.arm.id].mean)
    differences = {item.arm.id: paired_difference(losses(item), losses(first)) for item in others}
    level = [item for item in others if compared(differences[item.arm.id]) == NO_DIFFERENCE]
    text = f"{_name(first, group)}, {with_interval(means[first.arm.id])} nats a token after {place}"
    worse = len(others) - len(level)
    text += f"; not told apart from {_names(level, group)}" if level else ""
    text += f"; worse: {_names([item for item in others if item not in level], group)}" if worse else ""
    figures = {
        "best": first.arm.id,
        "loss": {key: value.as_dict() for key, value in means.items()},
        "difference_to_best": {key: value.as_dict() for key, value in differences.items() if value is not None},
    }
    return _answer(question, text, figures)


def _norm_place(groups: Sequence[Group]) -> Answer:
    """The order of the schemes that differ only in where their norms stand."""
    question = "Where should the norm go?"
    sentences, figures = [], {}
    for group in sorted(groups, key=_layers):
        found = [item for name in NORM_PLACES if (item := _at_best_rate(group, name)) is not None]
        if len(found) < 2:
            return _answer(question, f"{NOT_ASKED}: it needs two of {', '.join(NORM_PLACES)}.", {})
        losses = _at_tokens(group)
        ranked = sorted(found, key=lambda item: (not item.trains(), estimate(list(losses(item).values())).mean))
        sentences.append(f"at {_depth(group)}: {', '.join(_placed(item, ranked[0], losses) for item in ranked)}")
        figures[str(_layers(group))] = {item.arm.scheme: _loss(item, group).as_dict() for item in ranked}
    return _answer(question, "; ".join(sentences), figures)


def _placed(item: Measured, first: Measured, losses: Losses) -> str:
    """One place in the order, with its distance to the first."""
    if not item.trains():
        return f"{item.arm.scheme} does not train"
    if item is first:
        return f"{item.arm.scheme} {estimate(list(losses(item).values())).mean:.3f}"
    difference = paired_difference(losses(item), losses(first))
    if difference is None:
        return f"{item.arm.scheme} without a common seed"
    word = "no difference seen" if compared(difference) == NO_DIFFERENCE else compared(difference)
    return f"{item.arm.scheme} {with_interval(difference, signed=True)}, {word}"


def _at_best_rate(group: Group, scheme: str) -> Measured | None:
    """A scheme of the catalogue with its default fields, at the learning rate that suits it best."""
    found = [item for item in group.members if item.arm.scheme == scheme and item.records]
    return min(found, key=lambda item: _sortable(_loss(item, group).mean)) if found else None


def _at_tokens(group: Group) -> Losses:
    return lambda item: item.losses_at_tokens(group.tokens)


def _at_time(group: Group) -> Losses:
    return lambda item: item.losses_at_time(group.wall_s)


def _loss(item: Measured, group: Group) -> Estimate:
    return estimate(list(item.losses_at_tokens(group.tokens).values()))


def _sortable(value: float) -> float:
    return value if math.isfinite(value) else math.inf


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
