"""Linear models on bags of words: what an encoder must beat."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float

PENALTY = 1.0
"""On half the squared weights, where the losses are summed: scikit-learn's C = 1."""
ITERATIONS = 300
"""Of L-BFGS, at most; on the shipped data it stops at the tolerance before."""
TOLERANCE = 1e-6
"""Of the mean loss's gradient."""
_WORD = re.compile(r"\w+|[^\w\s]")


class TfIdf:
    """Words of a text with their weights: log-scaled counts times rarity, to unit length.

        v_w = (1 + ln n_w) (1 + ln((1 + N) / (1 + N_w))),   x = v / |v|

    `n_w` in the text; of N training texts, N_w have the word. Words and single marks, in lower case. Salton and Buckley
    1988, with the smoothing of scikit-learn.

    Args:
        texts: to take the words and their rarity from.
        minimum: texts that a word must be in.
    """

    def __init__(self, texts: Sequence[str], minimum: int = 1) -> None:
        counts = Counter(word for text in texts for word in set(_words(text)))
        kept = sorted(word for word, number in counts.items() if number >= minimum)
        self.places = {word: place for place, word in enumerate(kept)}
        self.rarity = [1 + math.log((1 + len(texts)) / (1 + counts[word])) for word in kept]

    def __len__(self) -> int:
        """Words; one more place is kept for texts of no known word."""
        return len(self.places)

    def bags(self, texts: Sequence[str]) -> Bags:
        """The texts' words and weights, one text after the other."""
        words: list[int] = []
        weights: list[float] = []
        starts: list[int] = []
        for text in texts:
            starts.append(len(words))
            own = Counter(self.places[word] for word in _words(text) if word in self.places)
            values = [(1 + math.log(number)) * self.rarity[place] for place, number in own.items()]
            length = math.sqrt(sum(value * value for value in values))
            words += own
            weights += [value / length for value in values]
        return Bags(words, weights, starts)


class Bags:
    """Sparse rows: words, weights, and where each row starts."""

    def __init__(self, words: list[int], weights: list[float], starts: list[int]) -> None:
        self.words, self.starts = torch.tensor(words, dtype=torch.long), torch.tensor(starts, dtype=torch.long)
        self.weights = torch.tensor(weights, dtype=torch.float64)

    def times(self, matrix: Float[Tensor, "words outputs"]) -> Float[Tensor, "rows outputs"]:
        """The rows times a dense matrix."""
        return F.embedding_bag(self.words, matrix, self.starts, mode="sum", per_sample_weights=self.weights)


class BagOfWords:
    """`outputs = x W + b`, the weights that make `sum of losses + |W|^2 / 2` least, found by L-BFGS.

    With cross entropy it is logistic regression, with squared error ridge regression. Biases are free.

    Args:
        texts: to fit.
        truths: what the loss is given.
        outputs: numbers a text.
        loss: the mean over texts.
    """

    def __init__(
        self, texts: Sequence[str], truths: Tensor, outputs: int, loss: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        self.words = TfIdf(texts)
        self.weight = torch.zeros(len(self.words), outputs, dtype=torch.float64, requires_grad=True)
        self.bias = torch.zeros(outputs, dtype=torch.float64, requires_grad=True)
        self._fit(self.words.bags(texts), len(texts), lambda found: loss(found, truths))

    @torch.no_grad()
    def outputs(self, texts: Sequence[str]) -> Float[Tensor, "texts outputs"]:
        """What the model gives out for some texts."""
        return self._of(self.words.bags(texts)).float()

    def _of(self, bags: Bags) -> Tensor:
        return bags.times(self.weight) + self.bias

    def _fit(self, bags: Bags, items: int, loss: Callable[[Tensor], Tensor]) -> None:
        search = torch.optim.LBFGS(
            [self.weight, self.bias],
            max_iter=ITERATIONS,
            tolerance_grad=TOLERANCE,
            tolerance_change=0.0,
            history_size=20,
            line_search_fn="strong_wolfe",
        )

        def closure() -> Tensor:
            search.zero_grad()
            total = loss(self._of(bags)) + PENALTY * self.weight.square().sum() / 2 / items
            total.backward()
            return total

        with torch.enable_grad():
            search.step(closure)  # pyrefly: ignore


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
