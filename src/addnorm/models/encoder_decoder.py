"""The encoder-decoder of "Attention Is All You Need"."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Unpack

import torch
from torch import Tensor

from addnorm.checks import check_at_least
from addnorm.choices import takes_fields_of
from addnorm.config import NEEDED, ModelConfig, model_config
from addnorm.keywords import ModelKeywords
from addnorm.layers.attention import CrossAttention
from addnorm.layers.cache import KVCache
from addnorm.layers.embedding import Head
from addnorm.models.beam_search import BeamSearch, Hypothesis, beam_search
from addnorm.models.body import TokenBody
from addnorm.models.sampling import in_evaluation
from addnorm.models.sublayers import build_stack
from addnorm.residual import Scheme
from addnorm.stack import Later, Stack

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


class EncoderDecoder(TokenBody):
    """An encoder, and a decoder that attends to it: Vaswani et al. 2017, arXiv:1706.03762, under any residual scheme.

    One embedding serves source, target and (when tied) the head.

    Args:
        scheme: the residual scheme of both stacks, or its text.
        seed: of the initial weights.
        encoder_layers: layers of the encoder; by default as many as the decoder's `num_layers`.
        calibration: typical source and target ids, where the scheme needs it, or "later": see `Body.calibrate_`.
        shape: the fields of `addnorm.config.ModelConfig`; `num_layers` is the decoder's.

    Raises:
        UserError: a field is unknown, missing or not allowed; the scheme needs a calibration and none came.

    Examples:
        >>> import torch, addnorm
        >>> model = addnorm.EncoderDecoder("pre-norm", vocab_size=256, d_model=32, num_heads=4, num_layers=2)
        >>> model(torch.zeros(1, 9, dtype=torch.long), torch.zeros(1, 7, dtype=torch.long)).shape
        torch.Size([1, 7, 256])
    """

    reads = "(source ids, target ids)"

    @takes_fields_of(ModelConfig, NEEDED)
    def __init__(
        self,
        scheme: Scheme | str,
        *,
        seed: int = 0,
        encoder_layers: int | None = None,
        calibration: tuple[Int[Tensor, "batch source"], Int[Tensor, "batch target"]] | Later | None = None,
        **shape: Unpack[ModelKeywords],
    ) -> None:
        super().__init__(scheme, model_config(shape), calibration)
        layers = self.config.num_layers if encoder_layers is None else encoder_layers
        check_at_least("encoder_layers", layers, 1)
        self.encoder_config = replace(self.config, num_layers=layers)
        self.encoder = build_stack(self.scheme, self.encoder_config, "encoder", self.config.num_layers)
        self.decoder = build_stack(self.scheme, self.config, "decoder", self.encoder_config.num_layers)
        self.head = Head(self.config, self.scheme.logits(self.config.d_model, self.config.vocab_size))
        self.start_(seed, calibration)

    def stacks(self) -> list[tuple[Stack, list[Tensor]]]:
        return [(self.encoder, []), (self.decoder, self.head.tables(self.embedding.tokens))]

    def example(self) -> tuple[Tensor, ...]:
        return (*super().example(), *super().example())

    def encode(
        self, source: Int[Tensor, "batch source"], keep: Bool[Tensor, "batch source"] | None = None
    ) -> Float[Tensor, "batch source d_model"]:
        """The encoder's output, which the decoder attends to.

        Args:
            source: source token ids.
            keep: which of them are real (True); None = all.
        """
        return self.hidden(self.encoder, source, keep=keep)

    def decode(
        self,
        target: Int[Tensor, "batch target"],
        memory: Float[Tensor, "batch source d_model"],
        *,
        memory_keep: Bool[Tensor, "batch source"] | None = None,
        target_keep: Bool[Tensor, "batch target"] | None = None,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "batch target vocab_size"]:
        """Logits of the next target token, given the encoder's output.

        Args:
            target: target token ids; with a cache the new ones only.
            memory: what `encode` gave.
            memory_keep: which tokens of the memory are real (True); None = all.
            target_keep: which target tokens are real (True), the cached ones included; None = all.
            cache: keys and values of earlier target tokens and, from the first call, of the memory.
        """
        given = {"memory": memory, "memory_keep": memory_keep, "cache": cache}
        hidden = self.hidden(self.decoder, target, keep=target_keep, causal=True, **given)
        return self.head(hidden, self.embedding.tokens)

    def forward(
        self,
        source: Int[Tensor, "batch source"],
        target: Int[Tensor, "batch target"],
        source_keep: Bool[Tensor, "batch source"] | None = None,
        target_keep: Bool[Tensor, "batch target"] | None = None,
    ) -> Float[Tensor, "batch target vocab_size"]:
        """Logits of the next target token at every target token.

        Args:
            source: source token ids.
            target: target token ids, shifted right by the caller.
            source_keep: which source tokens are real (True); None = all.
            target_keep: which target tokens are real (True); None = all.
        """
        memory = self.encode(source, source_keep)
        return self.decode(target, memory, memory_keep=source_keep, target_keep=target_keep)

    @torch.no_grad()
    def generate(
        self,
        source: Int[Tensor, "batch source"],
        source_keep: Bool[Tensor, "batch source"] | None = None,
        *,
        marks: Marks,
        search: BeamSearch | None = None,
    ) -> list[list[Hypothesis]]:
        """For each source the targets that a beam search finds, best first; without dropout.

        Args:
            source: source token ids.
            source_keep: which source tokens are real (True); None = all.
            marks: where a target begins and ends.
            search: how; None = a beam of 4.

        Raises:
            UserError: the source does not fit the model, or a logit is NaN or infinite.
        """
        with in_evaluation(self):
            decoding = _Decoding(self, source, source_keep, marks)
            begin = torch.full_like(source[:, 0], marks.begin)
            return beam_search(decoding, begin, marks.end, search)


@dataclass(frozen=True, kw_only=True)
class Marks:
    """Token ids that stand for no text.

    Args:
        begin: what a target begins with.
        end: what ends it.
        never: what never comes in a target, such as padding.
    """

    begin: int
    end: int
    never: tuple[int, ...] = ()


class _Decoding:
    """The decoder over a growing target; every token is read once."""

    def __init__(self, model: EncoderDecoder, source: Tensor, keep: Tensor | None, marks: Marks) -> None:
        self.model, self.keep, self.never = model, keep, list(marks.never)
        self.memory, self.cache = model.encode(source, keep), KVCache()
        self.sources = torch.arange(len(source), device=source.device)
        self.crossed = {module for module in model.decoder.modules() if isinstance(module, CrossAttention)}

    def next(self, tokens: Int[Tensor, "rows 1"]) -> Float[Tensor, "rows vocab_size"]:
        """The logits after these tokens; of what never comes, minus infinity."""
        logits = self.model.decode(tokens, self.memory, memory_keep=self.keep, cache=self.cache)[:, -1]
        logits[:, self.never] = float("-inf")
        return logits

    def select(self, rows: Int[Tensor, "kept"]) -> None:
        """Go on with these rows; where they are of the same sources as before, what is read of those stays."""
        sources = self.sources[rows]
        alike = torch.equal(sources, self.sources)
        self.cache.select(rows, self.crossed if alike else ())
        if not alike:
            self.memory, self.sources = self.memory[rows], sources
            self.keep = self.keep if self.keep is None else self.keep[rows]
