"""Language modeling: predict the next token of a text."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from addnorm import schemes
from addnorm.config import RunConfig
from addnorm.data.texts import plain_text
from addnorm.data.texts.text import TextSplits, joined
from addnorm.data.tokens import tokenizer
from addnorm.data.tokens.batches import TokenStream, counted_entropy
from addnorm.data.tokens.epochs import WindowStream
from addnorm.data.tokens.ngram import KneserNey
from addnorm.data.tokens.token_store import TokenStore, is_store
from addnorm.data.tokens.tokenizer import Tokenizer, bits_per_byte
from addnorm.errors import UserError
from addnorm.layers.cross_entropy import cross_entropy
from addnorm.models.decoder import Transformer
from addnorm.task import Prediction, Problem, Reader, Score, Split, Task, evaluating

if TYPE_CHECKING:
    from jaxtyping import Int

EVALUATION_BATCH_TOKENS = 4096
"""Tokens of a forward in evaluation; 24 layers of width 32 take 72 us a token, in batches of 512 they take 124."""
EVALUATION_BATCH_LOGITS = 2**22
"""Tokens times vocabulary in a forward of evaluation, at most: 16 MB of logits."""
PREDICTED_TOKENS = 200
NGRAM_ORDER = 5
NGRAM_TOKENS = 20_000_000
"""Training tokens that the n-gram model counts, at most: about 2 GB while it counts."""
HELD_OUT_TOKENS = 2_000_000
"""Of a token store's held-out split, as many are read at most, in slices spread over it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Corpus:
    """A text in tokens, ready to be cut into batches."""

    tokenizer: Tokenizer
    train: TokenStream | WindowStream
    validation: TokenStream
    test: TokenStream
    counts: Int[np.ndarray, "vocab_size"]
    """How often each token comes in the training split."""
    bytes_per_token: Mapping[str, float]
    """Of the held-out splits."""
    fingerprint: str
    notes: tuple[str, ...] = ()

    def held_out(self, split: Split) -> TokenStream:
        """A held-out split."""
        return self.validation if split == "validation" else self.test


class TextReader(Reader):
    """A tokenizer, and the decoder that it feeds.

    Args:
        tokenizer: of the run.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    def build(self, config: RunConfig) -> Transformer:
        """A decoder over the tokenizer's vocabulary, with fresh weights."""
        shape = asdict(config.model(self.tokenizer.vocab_size))
        return Transformer(schemes.parse(config.scheme), seed=config.seed, calibration="later", **shape)

    def save(self, folder: Path) -> None:
        """Write the tokenizer."""
        self.tokenizer.save(folder / tokenizer.FILE)

    def predict(self, model: nn.Module, given: str, config: RunConfig, beside: str | None = None) -> Prediction:
        """The likeliest continuation, 200 tokens of it; `addnorm generate` has all choices."""
        assert isinstance(model, Transformer)
        if not given:
            raise UserError('the text to continue is empty; give at least one letter, such as "ROMEO:".')
        prompt = torch.from_numpy(self.tokenizer.encode(given))[None]
        text = self.tokenizer.decode(model.generate(prompt, PREDICTED_TOKENS)[0].numpy())
        return Prediction(text=text, values={"prompt": given, "text": text})


class LanguageModelingProblem(Problem):
    """Next-token prediction on a text: `loss = -mean_t ln p(token_{t+1} | token_1..t)`, in nats a token.

    Args:
        config: the run; its seed, context, batch size and evaluation tokens.
        corpus: the tokens.
    """

    def __init__(self, config: RunConfig, corpus: Corpus) -> None:
        super().__init__(config, TextReader(corpus.tokenizer))
        self.corpus = corpus
        self.tokenizer = corpus.tokenizer
        self.vocab_size = corpus.tokenizer.vocab_size
        self.bytes_per_token = corpus.bytes_per_token["validation"]
        corpus.train.check_length(config.context)
        self._validation = self._evaluation_batches(corpus.validation, config.evaluation_tokens)
        targets = np.concatenate([batch.numpy().ravel() for _, batch in self._validation])
        self.unigram_entropy = counted_entropy(corpus.counts, targets)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the text and of the tokenizer."""
        return self.corpus.fingerprint

    @property
    def chance_loss(self) -> float:
        """The unigram entropy, in nats a token."""
        return self.unigram_entropy

    @property
    def steps_per_epoch(self) -> float:
        """Steps that see as many examples as there are."""
        return len(self.corpus.train) / self.tokens_per_step

    def train_batch(self, step: int) -> tuple[Int[Tensor, "batch context"], Int[Tensor, "batch context"]]:
        """Inputs and targets of a step: a function of the config's seed and the step."""
        return _tensors(
            self.corpus.train.batch(self.config.seed, step, self.config.batch_size, self.config.context),
        )

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """Nats a token on a batch of inputs and targets, smoothed; a scalar with its graph."""
        inputs, targets = batch
        return cross_entropy(model(inputs), targets, self.config.label_smoothing)

    def evaluate(self, model: nn.Module) -> float:
        """Nats a token on the held-out windows, without dropout."""
        return self._mean_loss(model, self._validation)

    def scores(
        self, model: nn.Module, split: Split = "test", limit: int | None = None, *, baselines: bool = True
    ) -> list[Score]:
        """Bits per byte and perplexity.

        Args:
            model: the decoder.
            split: of the text.
            limit: sequences of the context's length at most; None = the whole split.
            baselines: also those of a Kneser-Ney 5-gram model of the training text.
        """
        stream = self.corpus.held_out(split)
        most = limit * max(1, self.config.context // 2) if limit else None
        loss, places = self._loss_with_context(model, stream, most)
        other = self._ngram_loss(stream, places) if baselines else None
        per_byte = self.corpus.bytes_per_token[split]
        note = f"each token with {self.config.context // 2} to {self.config.context} tokens before it"
        name = "Kneser-Ney 5-gram" if baselines else ""
        return [
            Score(
                name="bits per byte",
                value=bits_per_byte(loss, per_byte),
                better="lower",
                baseline=None if other is None else bits_per_byte(other, per_byte),
                baseline_name=name,
                note=note,
            ),
            Score(
                name="perplexity",
                value=math.exp(loss),
                better="lower",
                baseline=None if other is None else math.exp(other),
                baseline_name=name,
                note="per token",
            ),
        ]

    def facts(self) -> dict[str, Any]:
        """The vocabulary's size, bytes a token, and what is to be known of the text."""
        about = {"vocab_size": self.vocab_size, "bytes_per_token": self.bytes_per_token}
        return about | ({"notes": list(self.corpus.notes)} if self.corpus.notes else {})

    def _mean_loss(self, model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
        with evaluating(model):
            total = sum(cross_entropy(model(x), targets).item() * targets.numel() for x, targets in batches)
        return total / sum(targets.numel() for _, targets in batches)

    def _loss_with_context(self, model: nn.Module, stream: TokenStream, most: int | None) -> tuple[float, np.ndarray]:
        """Nats a token where every token has half a context before it, and the places of these tokens."""
        context, total, places = self.config.context, 0.0, []
        size = max(1, min(EVALUATION_BATCH_TOKENS, EVALUATION_BATCH_LOGITS // self.vocab_size) // context)
        with evaluating(model):
            for inputs, targets, here in stream.overlapping(context, size, most):
                inputs, targets = _tensors((inputs, targets))
                total += cross_entropy(model(inputs), targets).item() * len(here)
                places.append(here)
        found = np.concatenate(places)
        return total / len(found), found

    def _ngram_loss(self, stream: TokenStream, places: np.ndarray) -> float:
        """The same of an n-gram model, which sees the whole text before each token."""
        model = KneserNey(np.asarray(self.corpus.train.tokens[:NGRAM_TOKENS]), self.vocab_size, NGRAM_ORDER)
        return float(-model.log_probabilities(np.asarray(stream.tokens))[places].mean())

    def _evaluation_batches(self, stream: TokenStream, most: int) -> list[tuple[Tensor, Tensor]]:
        config = self.config
        tokens = min(EVALUATION_BATCH_TOKENS, EVALUATION_BATCH_LOGITS // self.vocab_size)
        size = max(config.batch_size, tokens // config.context)
        return [_tensors(batch) for batch in stream.sequential(config.context, size, most)]


@dataclass(frozen=True, kw_only=True)
class LanguageModeling(Task):
    """Language modeling: predict the next token of a text."""

    def prepare(self, config: RunConfig, reader: Reader | None = None) -> LanguageModelingProblem:
        """The text loaded and its tokenizer built, or an earlier run's taken; a token store opened.

        Raises:
            UserError: the text is missing, no text, or shorter than one sequence; the store is damaged, or was made
                with another tokenizer.
        """
        assert reader is None or isinstance(reader, TextReader)
        kept = None if reader is None else reader.tokenizer
        if is_store(config.data):
            return LanguageModelingProblem(config, _stored(config, kept))
        return LanguageModelingProblem(
            config, _corpus(plain_text.load(config.data, drop_repeats=config.drop_repeats), config.tokenizer, kept)
        )

    def reader(self, folder: Path) -> TextReader:
        """The tokenizer that a run was trained with.

        Raises:
            UserError: the file is missing or damaged.
        """
        return TextReader(tokenizer.load(folder / tokenizer.FILE))


@lru_cache(maxsize=2)
def _corpus(splits: TextSplits, tokenizer_name: str, kept: Tokenizer | None = None) -> Corpus:
    """The tokens of a text; kept, for the runs of a comparison that follow each other in one process."""
    tokens = kept or tokenizer.build(tokenizer_name, (document.text for document in splits.train))
    texts = {"training": joined(splits.train), "validation": joined(splits.validation), "test": joined(splits.test)}
    streams = {name: _stream(tokens, text, name) for name, text in texts.items()}
    identity = json.dumps([splits.fingerprint(), tokens.fingerprint()])
    return Corpus(
        tokenizer=tokens,
        train=streams["training"],
        validation=streams["validation"],
        test=streams["test"],
        counts=np.bincount(streams["training"].tokens, minlength=tokens.vocab_size),
        bytes_per_token={name: tokenizer.bytes_in(texts[name]) / len(streams[name]) for name in ("validation", "test")},
        fingerprint=hashlib.sha256(identity.encode()).hexdigest(),
        notes=splits.notes,
    )


def _stored(config: RunConfig, kept: Tokenizer | None) -> Corpus:
    """The tokens of a store: the training split mapped, of the others a part that fits in memory."""
    store = TokenStore(config.data)
    store.check_tokenizer(config.tokenizer, kept)
    if config.drop_repeats and not store.index.get("drop_repeats"):
        raise UserError(
            f"{config.data} is a token store, whose training documents are fixed; make it with addnorm tokenize "
            "--drop-repeats, and leave the option out here."
        )
    held_out = {
        name: TokenStream(store.splits[name].sample(HELD_OUT_TOKENS), name=name) for name in ("validation", "test")
    }
    return Corpus(
        tokenizer=store.tokenizer,
        train=WindowStream(store.splits["train"]),
        validation=held_out["validation"],
        test=held_out["test"],
        counts=store.unigrams(),
        bytes_per_token={name: store.bytes_per_token(name) for name in held_out},
        fingerprint=store.fingerprint,
        notes=store.notes,
    )


def _stream(tokens: Tokenizer, text: str, name: str) -> TokenStream:
    """Ids in the narrowest type that holds them: an int64 stream would take eight bytes for each byte of text."""
    return TokenStream(tokens.encode(text).astype(np.min_scalar_type(tokens.vocab_size - 1)), name=name)


def _tensors(batch: tuple[np.ndarray, np.ndarray]) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(batch[0]), torch.from_numpy(batch[1])
