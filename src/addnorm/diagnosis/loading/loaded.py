"""A model with a batch, and batches for models that came without one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

SENTENCE = "The quick brown fox jumps over the lazy dog, and then it sleeps for the rest of a long afternoon."
TOKENS, ROWS = 32, 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """What a diagnosis needs.

    Args:
        model: in evaluation.
        batch: as `addnorm.diagnosis.find` takes it.
        targets: of the batch; None where the model is none of language.
        words: the first sequence's tokens as text; empty without a tokenizer.
        decode: a token's text by its id; None without a tokenizer.
        about: what the batch is, in a few words.
    """

    model: nn.Module
    batch: Any
    targets: Tensor | None = None
    words: Sequence[str] = field(default=())
    decode: Callable[[int], str] | None = None
    about: str = ""


def random_ids(vocab_size: int, tokens: int = TOKENS) -> Tensor:
    """`(ROWS, tokens)`, the same each time."""
    return torch.randint(vocab_size, (ROWS, tokens), generator=torch.Generator().manual_seed(0))


def random_numbers(*shape: int) -> Tensor:
    """Standard normal, the same each time."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def next_tokens(ids: Tensor) -> Tensor:
    """Of each token the one after it; the last has none (-100).

    >>> next_tokens(torch.tensor([[5, 6, 7]]))
    tensor([[   6,    7, -100]])
    """
    return torch.cat([ids[:, 1:], torch.full_like(ids[:, :1], -100)], dim=1)
