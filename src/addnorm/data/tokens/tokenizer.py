"""Text to token ids and back: bytes, a byte-level BPE trained on the training split, or a checkpoint's tokenizer."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from addnorm.data.tokens.pretrained_tokenizer import PREFIX, Frame, PretrainedTokenizer, is_pretrained, tokenizer_file
from addnorm.data.tokens.tokenizer_file import opened, read_text
from addnorm.errors import UserError
from addnorm.files import write_atomically
from addnorm.json_file import parsed

FILE = "tokenizer.json"
_BYTE_FILE = {"type": "byte", "vocab_size": 256}
UNUSED_BYTES = (0xFD, 0xFE, 0xFF)
"""Never part of UTF-8; byte-level BPE writes each as the character of the same number."""
TRAINING_CHARACTERS = 20_000_000
"""From the beginning of the training texts, that a BPE is trained on: 12 s of one core for English and Spanish."""
UNSPACED = 6
"""What a character of a script without blanks counts for there: a clause is one word, and few come twice."""
_FIRST_UNSPACED = 0x2E80  # Chinese, Japanese, Korean
_CHUNK_CHARACTERS = 100_000
LONGEST_WORD = 256
"""Characters of a word that merges are learned from; longer ones, DNA or base64, are cut."""
# The kinds of run that the pre-tokenizer makes a word of: letters, digits, white space, and what is none of these.
_LONG_WORD = re.compile(
    rf"(?:[^\W\d_]{{{LONGEST_WORD}}}|\d{{{LONGEST_WORD}}}|\s{{{LONGEST_WORD}}}|(?:[^\w\s]|_){{{LONGEST_WORD}}})"
)
# A single newline between two characters that are not white space: no BPE token reaches across its end, because the
# pre-tokenizer splits there whatever follows. Cutting at other places would change the tokens.
_CUT = re.compile(r"(?<=\S\n)(?=\S)")


class Tokenizer(Protocol):
    """What the rest of the library needs of a tokenizer."""

    @property
    def vocab_size(self) -> int:
        """Number of token ids; ids run from 0."""
        ...

    @property
    def frame(self) -> Frame:
        """The tokens that an encoder's input has beside those of its texts."""
        ...

    def encode(self, text: str) -> np.ndarray:
        """Token ids, int64; a lone surrogate, which is no text, becomes a question mark."""
        ...

    def encode_places(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Token ids, and where each token stands in the text: its first character, and the one after its last."""
        ...

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Text; bytes that are not UTF-8 become U+FFFD."""
        ...

    def save(self, path: Path) -> None:
        """Write to a file that `load` reads."""
        ...

    def fingerprint(self) -> str:
        """SHA-256, equal exactly when the tokenizers are."""
        ...


class ByteTokenizer:
    """One token a byte of UTF-8.

    >>> ByteTokenizer().decode(ByteTokenizer().encode("naïve"))
    'naïve'
    """

    vocab_size = 256
    frame = Frame(cls=UNUSED_BYTES[0], sep=UNUSED_BYTES[1], pad=UNUSED_BYTES[2])

    def encode(self, text: str) -> np.ndarray:
        """Byte values, int64."""
        return np.frombuffer(_utf8(text), dtype=np.uint8).astype(np.int64)

    def encode_places(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Byte values, and of which character each byte is: `[bytes]` and `[bytes, 2]`.

        >>> ByteTokenizer().encode_places("aï")[1].tolist()
        [[0, 1], [1, 2], [1, 2]]
        """
        first = np.repeat(np.arange(len(text)), [len(_utf8(character)) for character in text])
        return self.encode(text), np.stack([first, first + 1], axis=1)

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Text; bytes that are not UTF-8 become U+FFFD."""
        return bytes(np.asarray(ids).tolist()).decode("utf-8", errors="replace")

    def save(self, path: Path) -> None:
        """Write to a file that `load` reads."""
        write_atomically(path, json.dumps(_BYTE_FILE) + "\n")

    def fingerprint(self) -> str:
        """SHA-256 of the saved form."""
        return _sha256(json.dumps(_BYTE_FILE))


class BPETokenizer:
    """Byte-level byte-pair encoding; every text round-trips, whatever it was trained on.

    Reference: Sennrich et al. 2016, arXiv:1508.07909; on bytes as in GPT-2 (Radford et al. 2019).
    """

    def __init__(self, serialized: str) -> None:
        """Take the text of a tokenizer.json of the package `tokenizers`."""
        self.serialized = serialized
        self._tokenizer = opened(serialized)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> BPETokenizer:
        """Learn merges from texts; the same texts give the same tokenizer.

        Args:
            texts: the training split only, or the validation loss is measured on seen words.
            vocab_size: ids wanted, the 256 bytes among them; a short text can give fewer.

        Raises:
            UserError: the size is below 256.
        """
        if vocab_size < 256:
            raise UserError(
                f"a BPE vocabulary of {vocab_size} is too small; use 256 (the bytes) or more, such as 4096."
            )
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyrefly: ignore
        tokenizer.decoder = decoders.ByteLevel()  # pyrefly: ignore
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
        tokenizer.train_from_iterator((chunk for text in texts for chunk in _short_words(_text(text))), trainer)
        return cls(tokenizer.to_str())

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return self._tokenizer.get_vocab_size()

    @property
    def frame(self) -> Frame:
        """Tokens of single bytes that no text has, so that a body keeps its vocabulary from task to task."""
        found = [self._tokenizer.token_to_id(chr(byte)) for byte in UNUSED_BYTES]
        cls, sep, pad = (number for number in found if number is not None)
        return Frame(cls=cls, sep=sep, pad=pad)

    def encode(self, text: str) -> np.ndarray:
        """Token ids, int64; a long text goes through in chunks on all cores, with the same result."""
        chunks = self._tokenizer.encode_batch_fast(list(_chunks(_text(text))))
        return np.concatenate([np.asarray(chunk.ids, dtype=np.int64) for chunk in chunks])

    def encode_places(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Token ids, and where each stands: `[tokens]` and `[tokens, 2]`; the space before a word belongs to it."""
        found = self._tokenizer.encode(_text(text))
        return np.asarray(found.ids, dtype=np.int64), np.asarray(found.offsets, dtype=np.int64).reshape(-1, 2)

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Text; bytes that are not UTF-8 become U+FFFD."""
        return self._tokenizer.decode(np.asarray(ids).tolist())

    def save(self, path: Path) -> None:
        """Write a tokenizer.json, which `load` and the package `tokenizers` read."""
        write_atomically(path, self.serialized)

    def fingerprint(self) -> str:
        """SHA-256 of the saved form."""
        return _sha256(self.serialized)


def build(name: str, training_texts: Iterable[str]) -> Tokenizer:
    """The tokenizer that "byte", "bpe:SIZE" or "hf:FOLDER" names, trained if it must be.

    A BPE is trained on the first `TRAINING_CHARACTERS` of the texts; no more of them are asked for.

    Raises:
        UserError: the name is none of these, the size is no number from 256 up, or the folder has no tokenizer.json.
    """
    kind, _, size = name.partition(":")
    if name == "byte":
        return ByteTokenizer()
    if kind == "bpe" and size.isascii() and size.isdigit() and len(size) < 8:
        return BPETokenizer.train(_first(training_texts, TRAINING_CHARACTERS), int(size))
    if name.startswith(PREFIX):
        return load(tokenizer_file(name.removeprefix(PREFIX)))
    raise UserError(f"tokenizer '{name}' is not understood; use byte, bpe:SIZE such as bpe:4096, or hf:FOLDER.")


def load(path: Path) -> Tokenizer:
    """The tokenizer saved in a file.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        serialized = read_text(path)
        saved: Any = parsed(serialized)
        if saved == _BYTE_FILE:
            return ByteTokenizer()
        return PretrainedTokenizer(serialized) if is_pretrained(saved) else BPETokenizer(serialized)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; name a run that was saved with its tokenizer.") from None
    except Exception as error:  # OSError, ValueError, and the bare Exception that `tokenizers` raises
        raise UserError(f"{path} is not a saved tokenizer ({error}); it is damaged, or of another program.") from None


def bytes_per_token(tokenizer: Tokenizer, text: str) -> float:
    """UTF-8 bytes of a text for each of its tokens; 1 for bytes."""
    return bytes_in(text) / len(tokenizer.encode(text))


def bytes_in(text: str) -> int:
    """UTF-8 bytes of a text.

    >>> bytes_in("naïve")
    6
    """
    return len(_utf8(text))


def bits_per_byte(nats_per_token: float, bytes_per_token: float) -> float:
    """A loss that can be compared across tokenizers.

    bits per byte = nats per token / (ln 2 * bytes per token)

    >>> bits_per_byte(math.log(256), 1.0)
    8.0
    """
    return nats_per_token / (math.log(2) * bytes_per_token)


def _first(texts: Iterable[str], budget: int) -> Iterator[str]:
    """The texts up to a budget of characters; of the last one the beginning."""
    for text in texts:
        head = text[:budget]
        codes = np.frombuffer(head.encode("utf-32-le", errors="replace"), dtype=np.uint32)
        weight = len(codes) + (UNSPACED - 1) * int((codes >= _FIRST_UNSPACED).sum())
        if weight >= budget:
            yield head[: max(1, len(head) * budget // weight)]
            return
        yield text
        budget -= weight


def _chunks(text: str) -> Iterator[str]:
    """The text in pieces that tokenize as the whole does."""
    start = 0
    while len(text) - start > _CHUNK_CHARACTERS:
        cut = _CUT.search(text, start + _CHUNK_CHARACTERS)
        if cut is None:
            break
        yield text[start : cut.end()]
        start = cut.end()
    yield text[start:]


def _short_words(text: str) -> Iterator[str]:
    """The text in pieces of which none has a word longer than `LONGEST_WORD`, to learn merges from.

    A step of training rewrites a whole word, so that its time grows with the square of a word's length: 80,000 bases of
    DNA took 10.5 s, 40,000 took 2.5. No merge of a usual vocabulary is as long as what is cut.
    """
    for chunk in _chunks(text):
        start = 0
        for found in _LONG_WORD.finditer(chunk):
            yield chunk[start : found.end()]
            start = found.end()
        yield chunk[start:]


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", errors="replace")


def _text(text: str) -> str:
    """The same text, but for lone surrogates, which `tokenizers` refuses."""
    return _utf8(text).decode("utf-8")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
