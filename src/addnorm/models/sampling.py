"""Choosing the next token: greedy, temperature, top-k, top-p."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from addnorm.checks import check_at_least
from addnorm.errors import UserError
from addnorm.layers.cache import KVCache
from addnorm.layers.context import check_keep
from addnorm.layers.embedding import Embedding, check_tokens

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


class Continuable(Protocol):
    """A language model whose forward takes new tokens, the padding of all tokens so far, and a cache."""

    embedding: Embedding

    def __call__(self, tokens: Tensor, keep: Tensor | None, cache: KVCache | None) -> Tensor: ...
    def modules(self) -> Iterator[nn.Module]: ...


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen: `softmax(logits / temperature)`, cut to `top_k` tokens, then to `top_p` of that.

    Args:
        temperature: divides the logits; 0 is greedy.
        top_k: only the k likeliest tokens (Fan et al. 2018, arXiv:1805.04833); None = all.
        top_p: only the likeliest tokens that together reach this probability (Holtzman et al. 2019, arXiv:1904.09751).
        generator: of the draws; None = torch's global one.

    Raises:
        UserError: a number is out of range.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        check_at_least("temperature", self.temperature, 0)
        if self.top_k is not None and not (isinstance(self.top_k, int) and self.top_k >= 1):
            raise UserError(f"top_k={self.top_k} is not allowed; use a whole number from 1.")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p={self.top_p} is not allowed; use a probability above 0 and up to 1.")

    def choose(self, logits: Float[Tensor, "batch vocab_size"]) -> Int[Tensor, "batch 1"]:
        """One token a row.

        Raises:
            UserError: a logit is NaN or infinite.
        """
        if not (logits < float("inf")).all():  # false for NaN too
            raise UserError("the model's logits are NaN or infinite: its weights are broken, no token can be chosen.")
        if self.temperature == 0:
            return logits.argmax(-1, keepdim=True)
        return torch.multinomial(self.probabilities(logits), 1, generator=self.generator)

    def probabilities(self, logits: Float[Tensor, "batch vocab_size"]) -> Float[Tensor, "batch vocab_size"]:
        """What is drawn from at a temperature above 0."""
        # Less the largest, and at least the smallest normal number: no temperature makes NaN of inf - inf or 0 / 0.
        temperature = max(self.temperature, torch.finfo(torch.float32).tiny)
        scores = (logits - logits.amax(-1, keepdim=True)).float() / temperature
        if self.top_k is None and self.top_p == 1:
            return scores.softmax(-1)
        ordered, order = scores.sort(dim=-1, descending=True, stable=True)
        return torch.zeros_like(scores).scatter(-1, order, self._cut(ordered))

    def _cut(self, ordered: Float[Tensor, "batch vocab_size"]) -> Float[Tensor, "batch vocab_size"]:
        """Probabilities of scores that fall from left to right, those beyond `top_k` and `top_p` zero."""
        if self.top_k is not None:
            ordered[:, self.top_k :] = float("-inf")
        probabilities = ordered.softmax(-1)
        if self.top_p < 1:
            before = probabilities.cumsum(-1) - probabilities
            probabilities = probabilities.masked_fill(before >= self.top_p, 0.0)
        return probabilities / probabilities.sum(-1, keepdim=True)


@dataclass(frozen=True, eq=False)
class Prompt:
    """What is to be continued.

    Args:
        tokens: token ids, shorter rows padded on the left.
        keep: which tokens are real (True); None = all.

    Raises:
        UserError: the rows are empty, padded on the right, or no ids.
    """

    tokens: Int[Tensor, "batch tokens"]
    keep: Bool[Tensor, "batch tokens"] | None = None

    def __post_init__(self) -> None:
        check_tokens(self.tokens)
        if self.tokens.shape[1] == 0:
            raise UserError("the prompt is empty; give at least one token.")
        if self.keep is not None:
            check_keep(self.keep, tuple(self.tokens.shape))
            if not self.keep[:, -1].all():
                raise UserError("a row of the prompt ends with padding; pad on the left: keep[:, -1] must be True.")

    def check_fits(self, embedding: Embedding, new: int) -> None:
        """Refuse a prompt that the model cannot read or continue.

        Raises:
            UserError: an id is outside the vocabulary, or the text would become too long.
        """
        vocab_size = embedding.tokens.num_embeddings
        if ((self.tokens < 0) | (self.tokens >= vocab_size)).any():
            raise UserError(f"the prompt holds ids outside the vocabulary; use 0 to {vocab_size - 1}.")
        embedding.check_length(self.tokens.shape[1] + max(new - 1, 0))  # the last new token is never read


@torch.no_grad()
def sample_tokens(
    model: Continuable, prompt: Prompt, max_new_tokens: int, sampling: Sampling
) -> Int[Tensor, "batch tokens_and_new"]:
    """Continue a prompt token by token; the prompt is read once and every new token reads the cache.

    Raises:
        UserError: the prompt does not fit the model, or `max_new_tokens` is negative.
    """
    check_at_least("max_new_tokens", max_new_tokens, 0)
    prompt.check_fits(model.embedding, max_new_tokens)
    cache, tokens, new, keep = KVCache(), prompt.tokens, prompt.tokens, prompt.keep
    with in_evaluation(model):
        for _ in range(max_new_tokens):
            new = sampling.choose(model(new, keep, cache)[:, -1])
            tokens = torch.cat((tokens, new), dim=1)
            keep = None if keep is None else torch.cat((keep, torch.ones_like(keep[:, :1])), dim=1)
    return tokens


@contextmanager
def in_evaluation(model: nn.Module | Continuable) -> Iterator[None]:
    """Within it the model is in evaluation; afterwards each module is as it was, also one that was frozen by hand."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
