"""The encoder: tokens to hidden vectors, every token seeing every other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from torch import Tensor, nn

from addnorm.choices import takes_fields_of
from addnorm.config import NEEDED, ModelConfig, model_config
from addnorm.keywords import ModelKeywords
from addnorm.layers.initialise import initialise_
from addnorm.models.body import Body, Calibration, TokenBody
from addnorm.models.sublayers import build_stack
from addnorm.residual import Scheme
from addnorm.stack import Later, Stack

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


class Encoder(TokenBody):
    """A bidirectional encoder under any residual scheme.

    Args:
        scheme: the residual scheme, or its text, such as "mhc(streams=4)".
        seed: of the initial weights.
        calibration: token ids of a typical batch, where the scheme needs it, or "later": see `Body.calibrate_`.
        shape: the fields of `addnorm.config.ModelConfig`.

    Raises:
        UserError: a field is unknown, missing or not allowed; the scheme needs a calibration and none came.

    Examples:
        >>> import torch, addnorm
        >>> encoder = addnorm.Encoder("pre-norm", vocab_size=256, d_model=32, num_heads=4, num_layers=2)
        >>> encoder(torch.zeros(1, 7, dtype=torch.long)).shape
        torch.Size([1, 7, 32])
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
        config = model_config(shape)
        super().__init__(scheme, config, calibration, config.segments)
        self.stack = build_stack(self.scheme, config, "encoder")
        self.start_(seed, calibration)

    def stacks(self) -> list[tuple[Stack, list[Tensor]]]:
        return [(self.stack, [self.embedding.tokens.weight])]

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
        return self.hidden(self.stack, tokens, segments, keep=keep)


class EncoderWithHead(Body):
    """An encoder, of whose lowest layers so many may be frozen, and a linear head over so many vectors at once."""

    def __init__(
        self,
        scheme: Scheme | str,
        vectors: int,
        outputs: int,
        *,
        frozen: int,
        seed: int,
        calibration: Calibration,
        shape: ModelKeywords,
    ) -> None:
        super().__init__(scheme, calibration)
        self.body = Encoder(self.scheme, calibration="later", **shape)
        self.config = self.body.config
        self.head = nn.Linear(self.config.d_model * vectors, outputs)
        if frozen:
            self.freeze_(frozen)
        self.start_(seed, calibration)

    def stacks(self) -> list[tuple[Stack, list[Tensor]]]:
        return self.body.stacks()

    def example(self) -> tuple[Tensor, ...]:
        return self.body.example()

    def initialise_(self, seed: int) -> None:
        """Fill all parameters afresh from the seed: the encoder's as those of an encoder alone."""
        self.body.initialise_(seed)
        initialise_(self.head, seed, self.config.init)

    def freeze_(self, layers: int) -> None:
        """Embedding, entrance, and the lowest layers with their connections: no gradient has to reach them."""
        stack = self.body.stack
        blocks = [block for site, block in zip(stack.sites, stack.blocks, strict=True) if site.layer < layers]
        for module in (self.body.embedding, stack.entrance, *blocks):
            module.requires_grad_(False)
