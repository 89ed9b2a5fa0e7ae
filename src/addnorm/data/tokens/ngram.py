"""An n-gram model with Kneser-Ney smoothing: what a language model must beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

UNSEEN = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class _Order:
    """The n-grams of one length: numbered in the order of their keys, `key = context's number * V + last token`.

    Args:
        keys: sorted.
        counts: of each n-gram, after the discount.
        context_counts: of each context, the sum over its n-grams before the discount.
        context_weight: of each context, how much of its probability goes to the shorter context.
    """

    keys: np.ndarray
    counts: np.ndarray
    context_counts: np.ndarray
    context_weight: np.ndarray

    def find(self, keys: np.ndarray) -> np.ndarray:
        """The numbers of n-grams by their keys; `UNSEEN` where the training text has none."""
        places = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where((self.keys[places] == keys) & (keys >= 0), places, UNSEEN)


class KneserNey:
    """Interpolated Kneser-Ney: `p(w | h) = max(c(hw) - D, 0) / c(h) + D n(h) / c(h) p(w | h without its first token)`.

    `c` counts occurrences for the longest n-grams, and for shorter ones the distinct tokens that stand before them;
    `n(h)` is how many different tokens follow `h`; `D = n_1 / (n_1 + 2 n_2)` of each length, where `n_i` n-grams have
    count i. Single tokens are interpolated with the uniform distribution. Kneser and Ney 1995; Chen and Goodman 1999.

    Args:
        tokens: ids of the training text.
        vocab_size: number of ids.
        order: tokens of the longest n-gram.

    >>> model = KneserNey(np.array([0, 1, 0, 1, 0, 2]), vocab_size=3, order=2)
    >>> bool(model.log_probabilities(np.array([0, 1]))[1] > model.log_probabilities(np.array([0, 2]))[1])
    True
    """

    def __init__(self, tokens: np.ndarray, vocab_size: int, order: int = 5) -> None:
        assert order >= 1 and len(tokens), (order, len(tokens))
        self.vocab_size = vocab_size
        self.orders: list[_Order] = []
        tokens = tokens.astype(np.int64)
        keys, ends = [], []
        number = np.zeros(len(tokens) + 1, dtype=np.int64)  # the empty context's, one more than there are tokens
        for length in range(1, order + 1):
            # The n-gram that ends at i has as its context the shorter one that ends at i - 1.
            own = number[: len(tokens) - length + 1] * vocab_size + tokens[length - 1 :]
            found, number = np.unique(own, return_inverse=True)
            keys.append(found)
            ends.append(number)
        for length in range(1, order + 1):
            self.orders.append(_smoothed(keys, ends, length, order, vocab_size))

    def log_probabilities(self, tokens: np.ndarray) -> np.ndarray:
        """The log of each token's probability after those before it, in nats."""
        tokens = tokens.astype(np.int64)
        number = np.zeros(len(tokens), dtype=np.int64)  # of the context of each token
        probability = np.full(len(tokens), 1 / self.vocab_size)
        for order in self.orders:
            here = order.find(np.where(number == UNSEEN, UNSEEN, number * self.vocab_size + tokens))
            known = number != UNSEEN
            context = number[known]
            own = np.where(here == UNSEEN, 0.0, order.counts[here])[known] / order.context_counts[context]
            probability[known] = own + order.context_weight[context] * probability[known]
            number = np.concatenate([[UNSEEN], here[:-1]]).astype(np.int64)
        return np.log(probability)


def _smoothed(keys: list[np.ndarray], ends: list[np.ndarray], length: int, order: int, vocab_size: int) -> _Order:
    """The counts of the n-grams of a length, discounted."""
    own = keys[length - 1]
    if length == order:
        counts = np.bincount(ends[length - 1], minlength=len(own)).astype(np.float64)
    else:  # of the distinct longer n-grams, how many end in each
        _, first = np.unique(ends[length], return_index=True)
        counts = np.bincount(ends[length - 1][1:][first], minlength=len(own)).astype(np.float64)
        counts = np.maximum(counts, 1.0)  # the text's first n-gram may have nothing before it
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    discount = once / (once + 2 * twice) if once else 0.5
    contexts = own // vocab_size
    size = 1 if length == 1 else len(keys[length - 2])
    total = np.bincount(contexts, weights=counts, minlength=size)
    kinds = np.bincount(contexts, minlength=size)
    # A context that only ends the text has no n-gram: all of its probability goes to the shorter one.
    weight = np.where(total > 0, discount * kinds / np.maximum(total, 1.0), 1.0)
    return _Order(
        keys=own, counts=counts - discount, context_counts=np.where(total > 0, total, 1.0), context_weight=weight
    )
