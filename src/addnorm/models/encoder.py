"""The encoder: tokens to hidden vectors, every token seeing every other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from addnorm.config import model_config
from addnorm.layers.context import Context
from addnorm.layers.embedding import Embedding
from addnorm.layers.initialise import initialise_
from addnorm.layers.padding import padding
from addnorm.models.sublayers import build_stack
from addnorm.residual import Scheme
from addnorm.stack import Later, check_calibration

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


class Encoder(nn.Module):
    """A bidirectional encoder under any residual scheme.

    Args:
        scheme: the residual scheme.
        seed: of the initial weights.
        calibration: for a scheme that sets initial values from data (`Scheme.needs_calibration`), token ids of a
            typical batch; "later" if `calibrate_` is called or weights are loaded before the first forward.
        shape: the fields of `addnorm.config.ModelConfig`.

    Raises:
        UserError: a field is unknown, missing or not allowed; the scheme needs a calibration and none came.

    Example:
        >>> import torch, addnorm
        >>> scheme = addnorm.schemes.get("pre-norm")()
        >>> encoder = addnorm.Encoder(scheme, vocab_size=256, d_model=32, num_heads=4, num_layers=2)
        >>> encoder(torch.zeros(1, 7, dtype=torch.long)).shape
        torch.Size([1, 7, 32])
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
        self.embedding = Embedding(self.config, self.config.segments)
        self.stack = build_stack(scheme, self.config, "encoder")
        self.initialise_(seed)
        if isinstance(calibration, Tensor):
            self.calibrate_(calibration)

    def initialise_(self, seed: int) -> None:
        """Fill all parameters afresh from the seed."""
        initialise_(self, seed, self.config.init)
        self.stack.rescale_()
        self.after_step_()

    def after_step_(self) -> None:
        """Let the scheme bring weights back to where it wants them; after every step of an optimizer."""
        self.stack.after_step_([self.embedding.tokens.weight])

    @torch.no_grad()
    def calibrate_(self, tokens: Int[Tensor, "batch tokens"]) -> None:
        """Let the scheme set what depends on data, from one batch; most schemes set nothing."""
        if not self.scheme.needs_calibration:
            return
        training, positions = self.training, self.embedding.place(tokens)
        self.eval()
        self.stack.calibrate_(self.embedding(tokens, positions), Context(positions=positions))
        self.train(training)

    def forward(
        self,
        tokens: Int[Tensor, "batch tokens"],
        keep: Bool[Tensor, "batch tokens"] | None = None,
        segments: Int[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch tokens d_model"]:
        """The hidden vector of every token.

        Args:
            tokens: token ids.
            keep: which tokens are real (True); None = all. Positions count from a row's first real token, or with
                `count_padding` from its first token.
            segments: which segment each token is of, for a model with `segments`; None = all of segment 0.
        """
        positions = self.embedding.place(tokens, keep)
        with padding(keep):
            return self.stack(self.embedding(tokens, positions, segments), Context(keep=keep, positions=positions))
