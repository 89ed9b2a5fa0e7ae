"""Token embedding with positions, and the head that may share its weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from addnorm.config import ModelConfig
from addnorm.errors import UserError
from addnorm.kernels.linear import linear
from addnorm.layers.context import check_keep
from addnorm.layers.linear import mapped
from addnorm.layers.lookup_table import LookupTable
from addnorm.layers.position import added_position

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


class Embedding(nn.Module):
    """Token vectors plus their positions' vectors where positions are added: `E[token] + P[position]`, then dropout.

    With segments (BERT's token types) `S[segment]` is added too.

    Learned: `P` is a table. Sinusoidal: `sqrt(d_model) E[token] + P[position]`, as in Vaswani et al. 2017,
    arXiv:1706.03762, section 3.4: without the factor the sinusoids (RMS 0.71) drown the tokens (RMS `1/sqrt(d_model)`).

    Args:
        config: the shape; `position` says what is added.
        segments: kinds of segment that the body is given.

    Raises:
        UserError: the shape asks for segments and the body has none.
    """

    def __init__(self, config: ModelConfig, segments: int = 0) -> None:
        super().__init__()
        if config.segments != segments:
            raise UserError(f"segments={config.segments}: only an encoder tells segments apart; use 0.")
        self.tokens = LookupTable(config.vocab_size, config.d_model, "token id")
        self.dropout, self.count_padding = config.dropout, config.count_padding
        self.scale = math.sqrt(config.d_model) if config.position == "sinusoidal" else 1.0
        self.longest = config.max_tokens if config.position == "learned" else None
        self.positions = added_position(config.position, config.max_tokens, config.d_model)
        self.segments = LookupTable(segments, config.d_model, "segment") if segments else None

    def forward(
        self,
        tokens: Int[Tensor, "batch tokens"],
        positions: Int[Tensor, "*batch tokens"],
        segments: Int[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch tokens d_model"]:
        """The first vectors of the stream; without `segments` all tokens are of segment 0.

        Raises:
            UserError: `segments` came and there is no table of them, or they are no ids of the tokens' shape.
        """
        if segments is not None:
            self._check_segments(segments, tokens)
        embedded = self.tokens(tokens)
        if self.positions is not None:
            embedded = embedded * self.scale + self.positions(positions, embedded.dtype)
        if self.segments is not None:
            embedded = embedded + self.segments(torch.zeros_like(tokens) if segments is None else segments)
        return F.dropout(embedded, self.dropout, self.training) if self.dropout else embedded

    def place(
        self, tokens: Int[Tensor, "batch tokens"], keep: Bool[Tensor, "batch all_tokens"] | None = None, start: int = 0
    ) -> Int[Tensor, "*batch tokens"]:
        """Each token's position: 0, 1, 2 ... from the first real token of its row; padding before that is at 0 too.

        With `count_padding` from the first token of the row, real or not.

        Args:
            tokens: token ids, the last ones of `keep`.
            keep: which tokens are real (True), the `start` earlier ones included; None = all.
            start: how many tokens came before these.

        Raises:
            UserError: `tokens` are not ids in rows or are too many, or `keep` has a wrong shape or dtype.
        """
        check_tokens(tokens)
        self.check_length(start + tokens.shape[1])
        positions = torch.arange(start, start + tokens.shape[1], device=tokens.device)
        if keep is None:
            return positions
        check_keep(keep, (tokens.shape[0], start + tokens.shape[1]))
        if self.count_padding:
            return positions
        return (positions - keep.int().argmax(dim=1, keepdim=True)).clamp(min=0)

    def _check_segments(self, segments: Tensor, tokens: Tensor) -> None:
        if self.segments is None:
            raise UserError("segments came, but the model has none; build it with segments=2, or leave them out.")
        if segments.shape != tokens.shape or segments.dtype not in (torch.int64, torch.int32):
            raise UserError(
                f"segments have shape {tuple(segments.shape)} and dtype {segments.dtype}; "
                f"give integer ids of the tokens' shape {tuple(tokens.shape)}."
            )

    def check_length(self, tokens: int) -> None:
        """Refuse sequences longer than the table of learned positions.

        Raises:
            UserError: with both lengths.
        """
        # By the shape, not by the positions themselves: reading those would stop torch.compile.
        if self.longest is not None and tokens > self.longest:
            raise UserError(
                f"{tokens} tokens came, but max_tokens={self.longest}; "
                "give the model more max_tokens, or use rotary positions."
            )


class Head(nn.Module):
    """Logits over the vocabulary: `W hidden`, W its own or the embedding's.

    The embedding's weights are handed in, not kept, so that moving or copying the model cannot untie them.

    Args:
        config: the shape; `tie_embeddings` says whose weights.
        logits: what the logits go through; nothing by default.
    """

    def __init__(self, config: ModelConfig, logits: nn.Module | None = None) -> None:
        super().__init__()
        self.logits = logits or nn.Identity()
        self.own = None if config.tie_embeddings else nn.Linear(config.d_model, config.vocab_size, bias=False)

    def forward(
        self, hidden: Float[Tensor, "*tokens d_model"], embedding: nn.Embedding
    ) -> Float[Tensor, "*tokens vocab_size"]:
        """The logits."""
        if self.own is None:
            return self.logits(linear(hidden, embedding.weight, None))
        return self.logits(mapped(self.own, hidden))

    def tables(self, embedding: nn.Embedding) -> list[Tensor]:
        """The weights of the embedding and of the head: their rows are vectors of the stream."""
        return [embedding.weight] if self.own is None else [embedding.weight, self.own.weight]


def check_tokens(tokens: Tensor) -> None:
    """Refuse what is not rows of token ids.

    Raises:
        UserError: the shape or the dtype is wrong.
    """
    if tokens.dim() != 2 or tokens.dtype not in (torch.int64, torch.int32):
        raise UserError(
            f"tokens have shape {tuple(tokens.shape)} and dtype {tokens.dtype}; "
            "give integer ids of shape (batch, tokens)."
        )
