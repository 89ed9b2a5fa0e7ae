"""What a comparison's loss is measured in, in the words of its task."""

from __future__ import annotations

from html import escape
from typing import Any

from addnorm.studies.verdict import NOT_ASKED, NOT_EVEN

_NATS, _CHANCE = "nats per token", "unigram entropy"
BUSY = 0.25
"""Load of others, for each core, from which on speeds are doubted."""


def loss_name(results: dict[str, Any]) -> str:
    """The unit of the losses: "nats per token", "nats per label", "squared error per pixel"."""
    return (results.get("data") or {}).get("loss_name") or _NATS


def chance_name(results: dict[str, Any]) -> str:
    """What a model is called that knows how often each target comes and nothing else."""
    return (results.get("data") or {}).get("chance_name") or _CHANCE


def markup_in_words_of(results: dict[str, Any], markup: str) -> str:
    """The same for HTML and the scripts in it: a task's words are data, and must not become either.

    >>> markup_in_words_of({"data": {"loss_name": "<b>`${x}"}}, "<p>2.1 nats a token</p>")
    '<p>2.1 &lt;b&gt;&#96;&#36;{x}</p>'
    """
    words = {"loss_name": _as_markup(loss_name(results)), "chance_name": _as_markup(chance_name(results))}
    return in_words_of({"data": words}, markup)


def _as_markup(words: object) -> str:
    """Text for an element, an attribute, a quoted text of a script, and `string.Template`."""
    safe = escape(" ".join(str(words).split()), quote=True)
    return safe.replace("\\", "&#92;").replace("`", "&#96;").replace("$", "&#36;")


def in_words_of(results: dict[str, Any], text: str) -> str:
    """A text about a language model in the words of the results' task.

    >>> in_words_of({"data": {"loss_name": "nats per label"}}, "2.1 nats a token")
    '2.1 nats per label'
    """
    unit = loss_name(results)
    if unit != _NATS:
        for phrase in (_NATS, "nats a token", "nats/token"):
            text = text.replace(phrase, unit)
    what = "a model reaches that only knows how frequent each token is"
    return (
        text
        if chance_name(results) == _CHANCE
        else text.replace(what, "knows no input").replace(_CHANCE, chance_name(results))
    )


def asked(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The questions that this comparison asks, with their answers."""
    return [item for item in results.get("answers") or () if not item["answer"].startswith(NOT_ASKED)]


def load_note(results: dict[str, Any]) -> str:
    """What else the machine did while speed was measured.

    >>> load_note({"load": [{"before": 0.12, "after": 2.04, "cores": 2, "workers": 2}]})
    'Speed: 2 runs at a time on 2 cores; load average 0.1 before the first, 2.0 after the last.'
    >>> load_note({})
    'Speed: the load of the machine was not recorded.'
    """
    rounds = [row for row in results.get("load") or () if row.get("before") is not None]
    if not rounds:
        return "Speed: the load of the machine was not recorded."
    first, last = rounds[0], rounds[-1]
    busy = first["before"] > BUSY * first["cores"]
    said = (
        f"Speed: {last['workers']} run{'s' * (last['workers'] != 1)} at a time on {last['cores']} "
        f"core{'s' * (last['cores'] != 1)}; load average {first['before']:.1f} before the first, "
        f"{last['after']:.1f} after the last."
    )
    return f"{said} Others were at work on this machine: speeds may be off." if busy else said


def headline(results: dict[str, Any]) -> str | None:
    """What to know before all else: that not even the baseline trained, and what to try."""
    return next((note for note in results.get("notes") or () if note.startswith(NOT_EVEN)), None)
