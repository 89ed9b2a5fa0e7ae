"""Texts to token pairs, and a trained encoder-decoder's translations back to texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from addnorm import schemes
from addnorm.config import RunConfig
from addnorm.data.texts.records import Translation
from addnorm.data.tokens import tokenizer
from addnorm.data.tokens.token_pairs import TokenPairs
from addnorm.data.tokens.tokenizer import Tokenizer
from addnorm.errors import UserError
from addnorm.files import write_json
from addnorm.json_file import read_object
from addnorm.models.beam_search import BeamSearch, Hypothesis
from addnorm.models.encoder_decoder import EncoderDecoder, Marks
from addnorm.task import Prediction, Reader

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

FILE = "translation.json"
SOURCE_TOKENS = 1024
"""Of a batch that is translated, at most, padding included; its beams are as many times that."""
SHORTEST_LIMIT = 20
"""Target tokens that a source of any length may have; a longer one may have twice what is usual for its length."""


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """A tokenizer's ids, and two more: the end, which a target begins with too, and padding.

    Args:
        tokenizer: of both languages.
    """

    tokenizer: Tokenizer

    @property
    def end(self) -> int:
        return self.tokenizer.vocab_size

    @property
    def pad(self) -> int:
        return self.tokenizer.vocab_size + 1

    @property
    def size(self) -> int:
        return self.tokenizer.vocab_size + 2

    def source(self, text: str) -> np.ndarray:
        """The tokens of a text, then the end."""
        return np.append(self.tokenizer.encode(text), self.end)

    def target(self, text: str) -> np.ndarray:
        """The end as a beginning, the tokens of a text, and the end."""
        return np.concatenate(([self.end], self.tokenizer.encode(text), [self.end]))

    def pairs(self, records: Sequence[Translation]) -> TokenPairs:
        """All records in ids, in as few bytes as hold them."""
        kind = np.min_scalar_type(self.pad)
        return TokenPairs(
            sources=[self.source(record.source).astype(kind) for record in records],
            targets=[self.target(record.target).astype(kind) for record in records],
            pad=self.pad,
        )


class Translator(Reader):
    """A vocabulary of both languages, and the encoder-decoder that it feeds.

    Args:
        tokenizer: of both languages.
        tokens_per_token: target tokens for each source token in the training text.
        search: how translations are looked for; as long as `tokens_per_token` lets them be.
        encoder_layers: of the body; 0 = as many as the decoder has.
    """

    def __init__(self, tokenizer: Tokenizer, tokens_per_token: float, search: BeamSearch, encoder_layers: int) -> None:
        self.tokens_per_token, self.search, self.encoder_layers = tokens_per_token, search, encoder_layers
        self.vocabulary = Vocabulary(tokenizer=tokenizer)

    @classmethod
    def load(cls, folder: Path, search: BeamSearch, encoder_layers: int) -> Translator:
        """What a run was trained with.

        Raises:
            UserError: a file is missing or damaged.
        """
        path = folder / FILE
        try:
            ratio = float(read_object(path)["tokens_per_token"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} cannot be read ({error}); name the folder of a translation run.") from None
        return cls(tokenizer.load(folder / tokenizer.FILE), ratio, search, encoder_layers)

    def build(self, config: RunConfig) -> EncoderDecoder:
        """An encoder-decoder over the vocabulary, with fresh weights."""
        shape = asdict(config.model(self.vocabulary.size))
        scheme, layers = schemes.parse(config.scheme), self.encoder_layers or None
        return EncoderDecoder(scheme, seed=config.seed, encoder_layers=layers, calibration="later", **shape)

    def save(self, folder: Path) -> None:
        """Write the tokenizer and the ratio of lengths."""
        self.vocabulary.tokenizer.save(folder / tokenizer.FILE)
        write_json(folder / FILE, {"tokens_per_token": self.tokens_per_token})

    def predict(self, model: nn.Module, given: str, config: RunConfig, beside: str | None = None) -> Prediction:
        """The translation of a text, or of every line of a file."""
        lines = _lines(given)
        translations = self.translate(model, lines)
        pairs = [{"source": source, "target": target} for source, target in zip(lines, translations, strict=True)]
        values: dict[str, Any] = {"translations": pairs}
        return Prediction(text="\n".join(translations), values=values)

    def translate(self, model: nn.Module, texts: Sequence[str]) -> list[str]:
        """The best translation of each text."""
        found = self.hypotheses(cast(EncoderDecoder, model), [self.vocabulary.source(text) for text in texts])
        return [self.vocabulary.tokenizer.decode(list(each[0].tokens)).strip() for each in found]

    def hypotheses(self, model: EncoderDecoder, sources: Sequence[np.ndarray]) -> list[list[Hypothesis]]:
        """What the search finds for each source, best first."""
        pairs = TokenPairs(sources=sources, targets=sources, pad=self.vocabulary.pad)
        marks = Marks(begin=self.vocabulary.end, end=self.vocabulary.end, never=(self.vocabulary.pad,))
        found: dict[int, list[Hypothesis]] = {}
        for numbers in pairs.by_length(SOURCE_TOKENS):
            source = torch.from_numpy(pairs.rows(numbers)[0])
            longest = SHORTEST_LIMIT + int(2 * self.tokens_per_token * source.shape[1])
            search = replace(self.search, max_tokens=longest)
            keep = source != self.vocabulary.pad
            every = model.generate(source, None if keep.all() else keep, marks=marks, search=search)
            found |= dict(zip(numbers.tolist(), every, strict=True))
        return [found[number] for number in range(len(sources))]

    def logits(
        self, model: nn.Module, source: Int[Tensor, "batch source"], target: Int[Tensor, "batch target_and_1"]
    ) -> Float[Tensor, "batch target vocab_size"]:
        """What the model expects at each token of the targets but their first; padding stands at the right."""
        keep: Bool[Tensor, "batch source"] = source != self.vocabulary.pad
        # No mask for targets: causality hides from each token what is on its right, padding included.
        return model(source, target[:, :-1], None if keep.all() else keep)


def _lines(given: str) -> list[str]:
    """The lines of a file, if there is one of that name, or of the text itself.

    Raises:
        UserError: there is nothing to translate, or the file is no text.
    """
    from addnorm.data.sources.text_file import parse, read_text

    name, encoding = parse(given)
    path = Path(name)
    try:
        is_file = path.is_file()
    except (OSError, ValueError):  # a text too long for a name
        is_file = False
    lines = (read_text(path, encoding) if is_file else given).splitlines()
    empty = next((number for number, line in enumerate(lines, start=1) if not line.strip()), None)
    if not lines or empty:
        where = f"line {empty} of {path}" if is_file else "the text to translate"
        raise UserError(f"{where} is empty; give a sentence, or a file with one a line.")
    return lines
