"""Tokens in order, cut into training batches by (seed, step) and into evaluation batches without overlap."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from addnorm.errors import UserError

UNPREDICTED = -100
"""The target of a token that is read and not predicted."""


class TokenStream:
    """One split's tokens."""

    def __init__(self, tokens: np.ndarray, *, name: str = "text") -> None:
        """Take the ids of a text; `name` is what errors call it."""
        assert tokens.ndim == 1 and np.issubdtype(tokens.dtype, np.integer), (tokens.shape, tokens.dtype)
        self.tokens = tokens
        self.name = name

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, seed: int, step: int, batch_size: int, context: int) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets, int64 [batch_size, context], cut at places that depend on seed and step only.

        The places are raw draws of the counter-based generator Philox with the key (seed, step): nothing has to be
        saved to resume, every arm of a comparison sees the same batches, and no release of numpy changes them.
        The draws are taken modulo the number of places, which favours none by more than one part in 2^40.

        Raises:
            UserError: the stream is shorter than one sequence and its last target.
        """
        self.check_length(context)
        draws = np.random.Philox(key=np.array([seed, step], dtype=np.uint64)).random_raw(batch_size)
        starts = (draws % np.uint64(len(self) - context)).astype(np.int64)
        return self._windows(starts, context)

    def sequential(
        self, context: int, batch_size: int, max_tokens: int | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Batches that predict every token once, in order; the last batch may be smaller.

        The first token has nothing before it and is not predicted; neither are up to `context - 1` tokens at the
        end, which fill no sequence. With `max_tokens`, as many whole sequences as fit, at least one, spread evenly over
        the text rather than taken from its beginning.

        Raises:
            UserError: the stream is shorter than one sequence and its last target.
        """
        self.check_length(context)
        count = (len(self) - 1) // context
        kept = count if max_tokens is None else min(count, max(1, max_tokens // context))
        starts = np.arange(kept, dtype=np.int64) * count // kept * context
        return (self._windows(starts[i : i + batch_size], context) for i in range(0, kept, batch_size))

    def overlapping(
        self, context: int, batch_size: int, max_tokens: int | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Batches in which every predicted token has at least half a context before it.

        Sequences start half a context apart and only their second halves are predicted; the first half context of
        the text and what fills no sequence at its end are not. With `max_tokens`, as many whole sequences as predict
        no more, at least one, spread evenly over the text.

        Returns:
            Inputs, targets, and the places of the targets in the stream; a target of -100 is not predicted.

        Raises:
            UserError: the stream is shorter than one sequence and its last target.
        """
        self.check_length(context)
        stride = max(1, context // 2)
        count = (len(self) - 1 - context) // stride + 1
        kept = count if max_tokens is None else min(count, max(1, max_tokens // stride))
        starts = np.arange(kept, dtype=np.int64) * count // kept * stride
        for i in range(0, kept, batch_size):
            here = starts[i : i + batch_size]
            inputs, targets = self._windows(here, context)
            targets[:, : context - stride] = UNPREDICTED
            yield inputs, targets, (here[:, None] + np.arange(context - stride + 1, context + 1)).ravel()

    def check_length(self, context: int) -> None:
        """Refuse a context that the stream cannot fill.

        Raises:
            UserError: with the tokens there are and the tokens needed.
        """
        if len(self) <= context:
            raise UserError(
                f"the {self.name} text has {len(self)} tokens, context={context} needs {context + 1} or more; "
                "use a longer text or a smaller context."
            )

    def _windows(self, starts: np.ndarray, context: int) -> tuple[np.ndarray, np.ndarray]:
        windows = self.tokens[starts[:, None] + np.arange(context + 1)].astype(np.int64)
        return windows[:, :-1].copy(), windows[:, 1:].copy()


def unigram_entropy(train_tokens: np.ndarray, eval_tokens: np.ndarray, vocab_size: int) -> float:
    """Nats a token that a model pays which knows how often each token comes and nothing else.

    H = -1/|eval| * sum over eval of ln((count_train(token) + 1) / (|train| + vocab_size))

    A run whose validation loss stays here has learned no context.

    >>> round(unigram_entropy(np.array([0, 0, 1]), np.array([0, 1]), vocab_size=2), 4)  # -(ln 3/5 + ln 2/5) / 2
    0.7136
    """
    return counted_entropy(np.bincount(train_tokens, minlength=vocab_size), eval_tokens)


def counted_entropy(counts: np.ndarray, eval_tokens: np.ndarray) -> float:
    """The same from how often each token comes in the training text, for one that is not in memory."""
    log_share = np.log(counts + 1.0) - np.log(counts.sum() + float(len(counts)))
    return float(-log_share[eval_tokens].mean())
