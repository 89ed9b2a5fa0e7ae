"""A text in tokens on the disk, of any size; `addnorm tokenize` makes it.

    index.json               what it was made of and how; of each split the tokens, bytes, documents, shards
    tokenizer.json
    unigrams.bin             int64: how often each token comes in the training split
    train-00000.bin ...      shards: token ids, little endian, in the narrowest of uint8, uint16, uint32
    validation-00000.bin ... test-00000.bin ...

Shards are mapped, not read: what is not in use is the system's to drop from memory.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from addnorm.data.tokens import tokenizer
from addnorm.data.tokens.tokenizer import Tokenizer
from addnorm.errors import UserError
from addnorm.files import sha256
from addnorm.json_file import read_object

if TYPE_CHECKING:
    from jaxtyping import Int

INDEX, UNIGRAMS = "index.json", "unigrams.bin"
FORMAT = "addnorm token store 1"
SPLITS = ("train", "validation", "test")
CHECKED_BYTES = 2**30
"""Up to this size all shards are held against their SHA-256 whenever a store is opened; larger ones on request."""
SLICES = 20
_SHARD = re.compile(r"[A-Za-z0-9_.-]+\.bin")
"""No folder in it: an index names files beside it only, whoever made the store."""
_AGAIN = "make the store again with addnorm tokenize"


def is_store(path: str | Path) -> bool:
    """Whether a folder is a token store."""
    try:
        return read_object(Path(path).expanduser() / INDEX).get("format") == FORMAT
    except (OSError, ValueError, AttributeError):
        return False


def tokenizer_of(path: str | Path) -> str:
    """What a store's tokenizer is called, as `--tokenizer` names it; no shard is read.

    Raises:
        UserError: the index is missing or damaged.
    """
    return _index(Path(path).expanduser())["tokenizer"]


def shard_name(split: str, number: int) -> str:
    """The file of a shard.

    >>> shard_name("train", 3)
    'train-00003.bin'
    """
    return f"{split}-{number:05}.bin"


class Shards:
    """The tokens of a split, over the ends of its shards.

    Args:
        folder: of the store.
        split: its name.
        about: the split's entry of the index.
        dtype: of a token.
        vocab_size: ids are below it.

    Raises:
        UserError: a shard is missing or has another size than it had.
    """

    def __init__(self, folder: Path, split: str, about: dict[str, Any], dtype: np.dtype, vocab_size: int) -> None:
        self.folder, self.split, self.vocab_size = folder, split, vocab_size
        self.dtype = dtype
        self._maps = [_mapped(folder / shard["file"], shard["tokens"], dtype) for shard in about["shards"]]
        self._ends = np.cumsum([len(shard) for shard in self._maps])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, start: int, count: int) -> np.ndarray:
        """So many tokens from a place on, copied."""
        found = np.empty(count, dtype=self.dtype)
        number, done = int(np.searchsorted(self._ends, start, side="right")), 0
        while done < count:
            shard = self._maps[number]
            first = start + done - (int(self._ends[number]) - len(shard))
            part = shard[first : first + count - done]
            found[done : done + len(part)] = part
            number, done = number + 1, done + len(part)
        return found

    def windows(self, starts: Int[np.ndarray, "n"], length: int) -> Int[np.ndarray, "n length"]:
        """The tokens behind these places, int64.

        Raises:
            UserError: there is an id that the tokenizer does not have.
        """
        found = np.stack([self.read(start, length) for start in starts.tolist()]).astype(np.int64)
        if found.max() >= self.vocab_size:
            raise UserError(
                f"the {self.split} split of {self.folder} holds the id {found.max()}, its tokenizer has only "
                f"{self.vocab_size}: a shard is damaged; {_AGAIN}."
            )
        return found

    def __getitem__(self, part: slice) -> np.ndarray:
        """The tokens of a slice, copied."""
        start, stop, step = part.indices(len(self))
        assert step == 1, part
        return self.read(start, max(0, stop - start))

    def sample(self, most: int) -> np.ndarray:
        """All tokens, or where there are more than `most`, about so many in 20 slices spread evenly over the split."""
        if len(self) <= most:
            return self.read(0, len(self))
        size = most // SLICES
        return np.concatenate([self.read(i * (len(self) - size) // (SLICES - 1), size) for i in range(SLICES)])


class TokenStore:
    """A token store, opened.

    Args:
        path: its folder.

    Raises:
        UserError: it is no store, or a file is missing or damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self.index = _index(self.path)
        self.tokenizer: Tokenizer = tokenizer.load(self.path / tokenizer.FILE)
        if self.tokenizer.fingerprint() != self.index["tokenizer_sha256"]:
            raise UserError(f"{self.path / tokenizer.FILE} is not the tokenizer the store was made with; {_AGAIN}.")
        self.splits = {split: self._shards(split) for split in SPLITS}
        if sum(len(shards) for shards in self.splits.values()) * self._dtype.itemsize <= CHECKED_BYTES:
            self.verify()

    @property
    def notes(self) -> tuple[str, ...]:
        """What was said of its text when it was made; stores of old say nothing."""
        given = self.index.get("notes")
        return tuple(note for note in given if isinstance(note, str)) if isinstance(given, list) else ()

    @property
    def name_of_tokenizer(self) -> str:
        """As `--tokenizer` names it."""
        return self.index["tokenizer"]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the index, and so of all shards and of the tokenizer."""
        return sha256(self.path / INDEX)

    def bytes_per_token(self, split: str) -> float:
        """UTF-8 bytes of a split's text for each of its tokens."""
        about = self.index["splits"][split]
        return about["bytes"] / about["tokens"]

    def unigrams(self) -> Int[np.ndarray, "vocab_size"]:
        """How often each token comes in the training split."""
        path = self.path / UNIGRAMS
        _check(path, self.index["unigrams_sha256"])
        return np.fromfile(path, dtype="<i8")

    def check_tokenizer(self, name: str, kept: Tokenizer | None = None) -> None:
        """Refuse a run that has another tokenizer.

        Args:
            name: what the run's config names.
            kept: the run's, if it was trained before.

        Raises:
            UserError: with what to give.
        """
        if kept is not None:
            if kept.fingerprint() != self.index["tokenizer_sha256"]:
                raise UserError(
                    f"{self.path} was made with another tokenizer than the run was trained with; "
                    "make a store with --tokenizer hf:RUN, RUN being the run's folder."
                )
        elif name != self.name_of_tokenizer and not self._is_mine(name):
            raise UserError(
                f"{self.path} was made with the tokenizer {self.name_of_tokenizer}, the run has {name}; "
                f"use --tokenizer {self.name_of_tokenizer}, or make another store."
            )

    def _is_mine(self, name: str) -> bool:
        """Whether the tokenizer of a checkpoint or run is the store's, whatever it is called."""
        if not name.startswith(tokenizer.PREFIX):
            return False
        return tokenizer.build(name, ()).fingerprint() == self.index["tokenizer_sha256"]

    def verify(self) -> int:
        """Hold every shard against its SHA-256; how many there are.

        Raises:
            UserError: one is damaged.
        """
        shards = [shard for split in SPLITS for shard in self.index["splits"][split]["shards"]]
        for shard in shards:
            _check(self.path / shard["file"], shard["sha256"])
        _check(self.path / UNIGRAMS, self.index["unigrams_sha256"])
        return len(shards)

    @property
    def _dtype(self) -> np.dtype:
        return np.dtype(self.index["dtype"]).newbyteorder("<")

    def _shards(self, split: str) -> Shards:
        return Shards(self.path, split, self.index["splits"][split], self._dtype, self.tokenizer.vocab_size)


def _index(folder: Path) -> dict[str, Any]:
    try:
        found = read_object(folder / INDEX)
        wanted = {"tokenizer", "tokenizer_sha256", "dtype", "unigrams_sha256"}
        if (
            found["format"] != FORMAT
            or not wanted <= found.keys()
            or found["dtype"] not in ("uint8", "uint16", "uint32")
        ):
            raise ValueError("a field is missing or has another value")
        shards = [shard for split in SPLITS for shard in found["splits"][split]["shards"]]
        if not all({"file", "tokens", "sha256"} <= shard.keys() for shard in shards):
            raise ValueError("a shard is not described")
        if not all(isinstance(shard["file"], str) and _SHARD.fullmatch(shard["file"]) for shard in shards):
            raise ValueError("a shard is a file of another folder")
        return found
    except FileNotFoundError:
        unfinished = folder.with_name(f"{folder.name}.part").exists()
        hint = "its build is not finished: add --resume to it" if unfinished else "addnorm tokenize makes one"
        raise UserError(f"{folder} is no token store (it has no {INDEX}); {hint}.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder / INDEX} is damaged ({error}); {_AGAIN}.") from None


def _mapped(path: Path, tokens: int, dtype: np.dtype) -> np.ndarray:
    wanted = tokens * dtype.itemsize
    try:
        size = path.stat().st_size
        if size != wanted:
            raise UserError(f"{path} is damaged: it has {size:,} bytes and had {wanted:,}; {_AGAIN}.")
        return np.memmap(path, dtype=dtype, mode="r")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}); {_AGAIN}.") from None


def _check(path: Path, wanted: str) -> None:
    try:
        found = sha256(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}); {_AGAIN}.") from None
    if found != wanted:
        raise UserError(f"{path} is damaged: its SHA-256 is {found[:12]}..., it was {wanted[:12]}...; {_AGAIN}.")
