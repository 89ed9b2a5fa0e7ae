"""Classifiers of texts: an encoder, one vector a text, a linear head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Unpack, get_args

import torch
from torch import Tensor

from addnorm.choices import takes_fields_of
from addnorm.config import NEEDED, ModelConfig
from addnorm.errors import unknown
from addnorm.keywords import ModelKeywords
from addnorm.models.encoder import EncoderWithHead
from addnorm.residual import Scheme
from addnorm.stack import Later

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

Pooling = Literal["mean", "first"]
POOLINGS: tuple[str, ...] = get_args(Pooling)
COMPARED = 4
"""Vectors that the head reads for two texts that are encoded apart: u, v, |u - v|, u * v."""


class TextClassifier(EncoderWithHead):
    """An encoder under any residual scheme, a vector for each text, and a linear head over it.

        u = mean of the hidden vectors of the real tokens, or the first token's ([CLS])
        logits = W u + b                                 one text, or two in one input
        logits = W [u; v; |u - v|; u * v] + b            two texts, encoded apart

    One text, or two in one input: Devlin et al. 2018, arXiv:1810.04805. Two texts encoded apart by the same weights:
    Conneau et al. 2017, arXiv:1705.02364; with a pretrained encoder Reimers and Gurevych 2019, arXiv:1908.10084.

    Args:
        scheme: the residual scheme, or its text, such as "mhc(streams=4)".
        outputs: numbers for each item: classes, or 1 for a score.
        texts: inputs of an item that are encoded apart: 1 or 2.
        pooling: "mean" over the real tokens, or the "first" token.
        frozen: so many of the lowest layers, and the embedding, are not trained; 0 trains all.
        seed: of the initial weights.
        calibration: token ids of a typical batch, where the scheme needs it, or "later": see `Body.calibrate_`.
        shape: the fields of `addnorm.config.ModelConfig`.

    Raises:
        UserError: a field is unknown, missing or not allowed; the scheme needs a calibration and none came.

    Examples:
        >>> import torch, addnorm
        >>> model = TextClassifier("pre-norm", outputs=3, vocab_size=256, d_model=32, num_heads=4, num_layers=2)
        >>> ids = torch.zeros(5, 7, dtype=torch.long)
        >>> model(ids, torch.ones_like(ids, dtype=torch.bool)).shape
        torch.Size([5, 3])
    """

    @takes_fields_of(ModelConfig, NEEDED)
    def __init__(
        self,
        scheme: Scheme | str,
        *,
        outputs: int,
        texts: Literal[1, 2] = 1,
        pooling: Pooling = "mean",
        frozen: int = 0,
        seed: int = 0,
        calibration: Int[Tensor, "*batch tokens"] | Later | None = None,
        **shape: Unpack[ModelKeywords],
    ) -> None:
        if pooling not in POOLINGS:
            raise unknown("pooling", str(pooling), POOLINGS)
        vectors = 1 if texts == 1 else COMPARED
        super().__init__(scheme, vectors, outputs, frozen=frozen, seed=seed, calibration=calibration, shape=shape)
        self.texts, self.pooling = texts, pooling

    def example(self) -> tuple[Tensor, ...]:
        (ids,) = super().example()
        ids = ids if self.texts == 1 else ids[:, None].expand(1, self.texts, -1)
        return ids, torch.ones_like(ids, dtype=torch.bool)

    def calibrate_(self, *batch: Int[Tensor, "*batch tokens"]) -> None:
        """Let the scheme set what depends on data, from one batch of texts; most schemes set nothing."""
        self.body.calibrate_(batch[0].flatten(0, -2))

    def forward(
        self,
        ids: Int[Tensor, "batch *texts tokens"],
        keep: Bool[Tensor, "batch *texts tokens"],
        segments: Int[Tensor, "batch *texts tokens"] | None = None,
    ) -> Float[Tensor, "batch outputs"]:
        """Logits, or scores.

        Args:
            ids: token ids; `(batch, 2, tokens)` for two texts that are encoded apart.
            keep: which tokens are real; at least one of each text.
            segments: which segment each token is of; a model without segments takes no notice.
        """
        vectors = self.vectors(ids, keep, segments)
        if self.texts == 1:
            return self.head(vectors)
        u, v = vectors.unbind(1)
        return self.head(torch.cat([u, v, (u - v).abs(), u * v], dim=-1))

    def vectors(
        self,
        ids: Int[Tensor, "batch *texts tokens"],
        keep: Bool[Tensor, "batch *texts tokens"],
        segments: Int[Tensor, "batch *texts tokens"] | None = None,
    ) -> Float[Tensor, "batch *texts d_model"]:
        """The vector of each text."""
        kinds = segments.flatten(0, -2) if segments is not None and self.config.segments else None
        hidden = self.body(ids.flatten(0, -2), keep.flatten(0, -2), kinds).unflatten(0, ids.shape[:-1])
        if self.pooling == "first":
            return hidden[..., 0, :]
        real = keep.unsqueeze(-1).to(hidden.dtype)
        return (hidden * real).sum(-2) / real.sum(-2)
