"""What a comparison's loss is measured in, in the words of its task."""

from __future__ import annotations

from typing import Any

_NATS, _CHANCE = "nats per token", "unigram entropy"


def loss_name(results: dict[str, Any]) -> str:
    """The unit of the losses: "nats per token", "nats per label", "squared error per pixel"."""
    return (results.get("data") or {}).get("loss_name") or _NATS


def chance_name(results: dict[str, Any]) -> str:
    """What a model is called that knows how often each target comes and nothing else."""
    return (results.get("data") or {}).get("chance_name") or _CHANCE


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
