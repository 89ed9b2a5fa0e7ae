"""The decoder language model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

import torch
from torch import Tensor

from addnorm.choices import takes_fields_of
from addnorm.config import NEEDED, ModelConfig, model_config
from addnorm.keywords import ModelKeywords
from addnorm.layers.cache import KVCache
from addnorm.layers.embedding import Head
from addnorm.models.body import TokenBody
from addnorm.models.sampling import Prompt, Sampling, sample_tokens
from addnorm.models.sublayers import build_stack
from addnorm.residual import Scheme
from addnorm.stack import Later, Stack

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


class Transformer(TokenBody):
    """A decoder language model: tokens to logits of the next token, under any residual scheme.

    Args:
        scheme: the residual scheme, or its text, such as "mhc(streams=4)".
        seed: of the initial weights; the same seed gives the same sublayers under every scheme.
        calibration: token ids of a typical batch, where the scheme needs it, or "later": see `Body.calibrate_`.
        shape: the fields of `addnorm.config.ModelConfig`: `vocab_size`, `d_model`, `num_heads`, `num_layers`, options.

    Raises:
        UserError: a field is unknown, missing or not allowed; the scheme needs a calibration and none came.

    Examples:
        >>> import torch, addnorm
        >>> model = addnorm.Transformer("pre-norm", vocab_size=256, d_model=32, num_heads=4, num_layers=2)
        >>> model(torch.zeros(1, 7, dtype=torch.long)).shape
        torch.Size([1, 7, 256])
    """

    @takes_fields_of(ModelConfig, NEEDED)
    def __init__(
        self,
        scheme: Scheme | str,
        *,
        seed: int = 0,
        calibration: Int[Tensor, "batch tokens"] | Later | None = None,
        **shape: Unpack[ModelKeywords],
    ) -> None:
        super().__init__(scheme, model_config(shape), calibration)
        self.stack = build_stack(self.scheme, self.config, "decoder")
        self.head = Head(self.config, self.scheme.logits(self.config.d_model, self.config.vocab_size))
        self.start_(seed, calibration)

    def stacks(self) -> list[tuple[Stack, list[Tensor]]]:
        return [(self.stack, self.head.tables(self.embedding.tokens))]

    def forward(
        self,
        tokens: Int[Tensor, "batch tokens"],
        keep: Bool[Tensor, "batch tokens"] | None = None,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "batch tokens vocab_size"]:
        """Logits of the next token at every token.

        Args:
            tokens: token ids.
            keep: which tokens are real (True); None = all. Positions count from a row's first real token. With a cache
                it covers the cached tokens too.
            cache: keys and values of earlier tokens; `tokens` are then the new ones only.
        """
        with self.stack.remembering():
            hidden = self.hidden(self.stack, tokens, keep=keep, causal=True, cache=cache)
            return self.head(hidden, self.embedding.tokens)

    def generate(
        self,
        prompt: Int[Tensor, "batch tokens"],
        max_new_tokens: int,
        *,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        generator: torch.Generator | None = None,
        keep: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Int[Tensor, "batch tokens_and_new"]:
        """The prompt continued by sampling from the model, with a key-value cache; greedy by default.

            p = softmax(logits / temperature), cut to the `top_k` likeliest tokens, then to `top_p` of what is left

        Args:
            prompt: token ids. Pad shorter rows on the left.
            max_new_tokens: how many tokens to add.
            temperature: divides the logits; 0 takes the likeliest token.
            top_k: only the k likeliest tokens (Fan et al. 2018, arXiv:1805.04833); None = all.
            top_p: only the likeliest tokens that together reach this probability (Holtzman et al. 2019,
                arXiv:1904.09751).
            generator: of the draws; None = torch's global one.
            keep: which tokens of the prompt are real (True); None = all.

        Raises:
            UserError: the prompt is empty, holds ids outside the vocabulary, is padded on the right, or is too long; a
                number is out of range.
        """
        sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, generator=generator)
        return sample_tokens(self, Prompt(prompt, keep), max_new_tokens, sampling)
