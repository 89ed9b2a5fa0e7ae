"""The decoder language model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from addnorm.config import model_config
from addnorm.layers.cache import KVCache
from addnorm.layers.context import Context
from addnorm.layers.embedding import Embedding, Head
from addnorm.layers.initialise import initialise_
from addnorm.layers.padding import padding
from addnorm.models.sampling import Prompt, Sampling, sample_tokens
from addnorm.models.sublayers import build_stack
from addnorm.residual import Scheme
from addnorm.stack import Later, check_calibration

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


class Transformer(nn.Module):
    """A decoder language model: tokens to logits of the next token, under any residual scheme.

    Args:
        scheme: the residual scheme.
        seed: of the initial weights; the same seed gives the same sublayers under every scheme.
        calibration: for a scheme that sets initial values from data (`Scheme.needs_calibration`), token ids of a
            typical batch; "later" if `calibrate_` is called or weights are loaded before the first forward.
        shape: the fields of `addnorm.config.ModelConfig`: `vocab_size`, `d_model`, `num_heads`, `num_layers`, options.

    Raises:
        UserError: a field is unknown, missing or not allowed; the scheme needs a calibration and none came.

    Example:
        >>> import torch, addnorm
        >>> model = addnorm.Transformer(
        ...     addnorm.schemes.get("pre-norm")(), vocab_size=256, d_model=32, num_heads=4, num_layers=2
        ... )
        >>> model(torch.zeros(1, 7, dtype=torch.long)).shape
        torch.Size([1, 7, 256])
    """

    def __init__(
        self,
        scheme: Scheme,
        *,
        seed: int = 0,
        calibration: Int[Tensor, "batch tokens"] | Later | None = None,
        **shape: Any,
    ) -> None:
        super().__init__()
        check_calibration(scheme, calibration, "a batch of token ids")
        self.config = model_config(shape)
        self.scheme = scheme
        self.embedding = Embedding(self.config)
        self.stack = build_stack(scheme, self.config, "decoder")
        self.head = Head(self.config, scheme.logits(self.config.d_model, self.config.vocab_size))
        self.initialise_(seed)
        if isinstance(calibration, Tensor):
            self.calibrate_(calibration)

    def initialise_(self, seed: int) -> None:
        """Fill all parameters afresh from the seed; does nothing to parameters on the meta device."""
        initialise_(self, seed, self.config.init)
        self.stack.rescale_()
        self.after_step_()

    def after_step_(self) -> None:
        """Let the scheme bring weights back to where it wants them; after every step of an optimizer."""
        self.stack.after_step_(self.head.tables(self.embedding.tokens))

    @torch.no_grad()
    def calibrate_(self, tokens: Int[Tensor, "batch tokens"]) -> None:
        """Let the scheme set what depends on data, from one batch; most schemes set nothing."""
        if not self.scheme.needs_calibration:
            return
        training, positions = self.training, self.embedding.place(tokens)
        self.eval()
        self.stack.calibrate_(self.embedding(tokens, positions), Context(causal=True, positions=positions))
        self.train(training)

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
        positions = self.embedding.place(tokens, keep, cache.tokens if cache is not None else 0)
        context = Context(causal=True, keep=keep, positions=positions, cache=cache)
        with self.stack.remembering(), padding(keep if keep is None else keep[:, -tokens.shape[1] :]):
            hidden = self.stack(self.embedding(tokens, positions), context)
            return self.head(hidden, self.embedding.tokens)

    def generate(
        self,
        prompt: Int[Tensor, "batch tokens"],
        max_new_tokens: int,
        sampling: Sampling | None = None,
        keep: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Int[Tensor, "batch tokens_and_new"]:
        """The prompt continued by sampling from the model, with a key-value cache.

        Args:
            prompt: token ids. Pad shorter rows on the left.
            max_new_tokens: how many tokens to add.
            sampling: how to choose; greedy by default.
            keep: which tokens of the prompt are real (True); None = all.

        Raises:
            UserError: the prompt is empty, holds ids outside the vocabulary, is padded on the right, or is too long.
        """
        return sample_tokens(self, Prompt(prompt, keep), max_new_tokens, sampling or Sampling())
