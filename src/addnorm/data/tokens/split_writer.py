"""Writes the tokens of one split into shards."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np

from addnorm.data.sources.pieces import Piece, Place
from addnorm.data.tokens.token_store import shard_name
from addnorm.data.tokens.tokenizer import Tokenizer
from addnorm.files import sha256

ENCODED_CHARACTERS = 1_000_000
"""Texts are gathered up to this and encoded at once, which takes all cores."""
BETWEEN = "\n\n"
"""What stands between two documents, as in `addnorm.data.texts.text.joined`."""


class SplitWriter:
    """One split of a store that is being made.

    What it has written is known from `state()`; one that is made with it goes on there.

    Args:
        folder: of the unfinished store.
        split: its name.
        tokenizer: of the store.
        shard_tokens: tokens of a shard.
        state: of an earlier writer.
    """

    def __init__(
        self, folder: Path, split: str, tokenizer: Tokenizer, shard_tokens: int, state: dict[str, Any] | None = None
    ) -> None:
        self.folder, self.split, self.tokenizer, self.shard_tokens = folder, split, tokenizer, shard_tokens
        self.dtype = np.min_scalar_type(tokenizer.vocab_size - 1).newbyteorder("<")
        state = state or {"tokens": 0, "bytes": 0, "documents": 0, "after": None}
        self.tokens, self.bytes, self.documents = state["tokens"], state["bytes"], state["documents"]
        self._after = None if state["after"] is None else Place(**state["after"])
        self._waiting: list[str] = []
        self._size = 0
        self._file: IO[bytes] | None = None
        self._drop_rest()

    def add(self, piece: Piece) -> None:
        """Take in a document or a block of one."""
        goes_on = piece.before is not None and piece.before == self._after
        between = BETWEEN if self.documents and not goes_on else ""
        self._waiting.append(between + piece.text)
        self._size += len(piece.text)
        self.documents += not goes_on
        self._after = piece.after
        if self._size >= ENCODED_CHARACTERS:
            self._encode()

    def state(self) -> dict[str, Any]:
        """Write what waits, have it on the disk, and say how much there is."""
        self._encode()
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
        after = None if self._after is None else asdict(self._after)
        return {"tokens": self.tokens, "bytes": self.bytes, "documents": self.documents, "after": after}

    def finish(self) -> dict[str, Any]:
        """Close the last shard; the split's entry of the index."""
        self.state()
        self.close()
        shards = []
        for number in range(-(-self.tokens // self.shard_tokens)):
            file = shard_name(self.split, number)
            size = min(self.shard_tokens, self.tokens - number * self.shard_tokens)
            shards.append({"file": file, "tokens": size, "sha256": sha256(self.folder / file)})
        return {"tokens": self.tokens, "bytes": self.bytes, "documents": self.documents, "shards": shards}

    def counts(self) -> np.ndarray:
        """How often each token comes in what is written."""
        found = np.zeros(self.tokenizer.vocab_size, dtype="<i8")
        for path in sorted(self.folder.glob(f"{self.split}-*.bin")):
            with path.open("rb") as file:
                while (tokens := np.fromfile(file, dtype=self.dtype, count=ENCODED_CHARACTERS)).size:
                    found += np.bincount(tokens, minlength=len(found))
        return found

    def close(self) -> None:
        """Give the file back."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _encode(self) -> None:
        text = "".join(self._waiting)
        self._waiting, self._size = [], 0
        if text:
            self._write(self.tokenizer.encode(text).astype(self.dtype))
            self.bytes += len(text.encode("utf-8", errors="replace"))

    def _write(self, tokens: np.ndarray) -> None:
        while len(tokens):
            room = self.shard_tokens - self.tokens % self.shard_tokens
            if self._file is None:
                self._file = self._shard(self.tokens // self.shard_tokens).open("ab")
            part, tokens = tokens[:room], tokens[room:]
            self._file.write(part.tobytes())
            self.tokens += len(part)
            if len(part) == room:
                self._file.flush()
                os.fsync(self._file.fileno())
                self.close()

    def _shard(self, number: int) -> Path:
        return self.folder / shard_name(self.split, number)

    def _drop_rest(self) -> None:
        """Take away what was written behind the state that is gone on from."""
        for path in self.folder.glob(f"{self.split}-*.bin"):
            number = int(path.stem.rpartition("-")[2])
            kept = min(self.tokens - number * self.shard_tokens, self.shard_tokens)
            if kept > 0:
                os.truncate(path, kept * self.dtype.itemsize)
            else:
                path.unlink()
