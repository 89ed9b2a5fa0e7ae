"""A run's model, with what its task gives it in training."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from torch import nn

from addnorm import tasks
from addnorm.diagnosis.loading.loaded import SENTENCE, TOKENS, Loaded, next_tokens
from addnorm.errors import UserError
from addnorm.models.decoder import Transformer
from addnorm.task import Problem
from addnorm.training.load import load_run


def of_run(folder: Path, *, task: str | None = None, scheme: str | None = None) -> Loaded:
    """A language model reads a sentence; every other model what it is given of its first batch of training.

    Raises:
        UserError: there is no run that can be read, or its data are missing.
    """
    loaded = load_run(folder, task=task, scheme=scheme)
    tokenizer = getattr(loaded.reader, "tokenizer", None)
    if isinstance(loaded.model, Transformer) and tokenizer is not None:
        encoded = [int(i) for i in tokenizer.encode(SENTENCE)][: min(loaded.config.context, 2 * TOKENS)]
        ids = torch.tensor([encoded])
        words = tuple(tokenizer.decode([i]) for i in encoded)
        return Loaded(
            model=loaded.model,
            batch=ids,
            targets=next_tokens(ids),
            words=words,
            decode=lambda token: tokenizer.decode([token]),
            about="a sentence",
        )
    problem = tasks.prepare(loaded.config, loaded.reader)
    return Loaded(
        model=loaded.model, batch=given_in_training(loaded.model, problem), about="the first batch of training"
    )


def given_in_training(model: nn.Module, problem: Problem) -> dict[str, Any]:
    """What the loss hands to the model, by name."""
    found: list[dict[str, Any]] = []

    def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.append(dict(inspect.signature(model.forward).bind(*args, **kwargs).arguments))

    handle = model.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        with torch.no_grad():
            problem.loss(model, problem.train_batch(0))
    finally:
        handle.remove()
    if not found:
        raise UserError(
            f"the loss of {problem.config.task} does not call its model as a whole, so there is no batch to take; "
            "load the run with addnorm.training.load and hand model and batch to addnorm.diagnose."
        )
    return found[0]
