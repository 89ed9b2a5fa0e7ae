"""Make a token store in constant memory; a build that is broken off goes on where it last stood.

It is made in FOLDER.part and gets its name at the end. Every 16 million characters all files are synced and
progress.json says how far they are; a resumed build cuts them back to that and reads on from there, so that its shards
are, byte for byte, those of a build that was never broken off.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from addnorm.data.sources import documents
from addnorm.data.sources.bad_records import BadRecords
from addnorm.data.sources.pieces import Piece, Place
from addnorm.data.sources.text_file import UTF8
from addnorm.data.tokens import tokenizer
from addnorm.data.tokens.held_out_documents import HeldOutDocuments
from addnorm.data.tokens.split_writer import SplitWriter
from addnorm.data.tokens.token_store import FORMAT, INDEX, SPLITS, UNIGRAMS
from addnorm.data.tokens.tokenizer import Tokenizer
from addnorm.data.tokens.tokenizing import TokenizeConfig
from addnorm.errors import UserError
from addnorm.files import sha256, sync, write_atomically, write_json
from addnorm.json_file import read_object

PROGRESS = "progress.json"
SAVED_CHARACTERS = 16_000_000
"""Read between two times that the progress is saved."""


@dataclass(frozen=True, kw_only=True)
class BuildProgress:
    """How far a build is: tokens written, and the share of the files' bytes; None where that is not known."""

    tokens: int
    share: float | None


def build(
    config: TokenizeConfig,
    out: Path,
    *,
    resume: bool = False,
    on_progress: Callable[[BuildProgress], None] | None = None,
) -> dict[str, Any]:
    """Make a token store.

    Args:
        config: of what, and how.
        out: its folder.
        resume: go on with a build that was broken off; return the index of one that is finished.
        on_progress: called after every document; what it raises breaks the build off.

    Returns:
        What stands in index.json.

    Raises:
        UserError: the folder exists, the source is missing or holds a bad record, or a resumed build is another one.
    """
    if resume and (out / INDEX).exists():
        return read_object(out / INDEX)
    if out.exists():
        raise UserError(f"{out} exists already; name a new folder with --out.")
    part = out.with_name(f"{out.name}.part")
    if (part / PROGRESS).exists() and not resume:
        raise UserError(f"{part} is an unfinished build; go on with --resume, or delete it to begin anew.")
    with _unfinished(part):
        index = _Build(config, part).run(on_progress)
        (part / PROGRESS).unlink(missing_ok=True)
        sync(part)
        os.rename(part, out)
        sync(out.parent)
    return index


class _Build:
    """One build, from the start or from the last saved progress.

    Raises:
        UserError: the saved progress is of another source, tokenizer or shard size.
    """

    def __init__(self, config: TokenizeConfig, part: Path) -> None:
        self.config, self.folder = config, part
        self.parts = documents.parts(config.source)
        self.held = documents.held_out(config.source, self.parts)
        saved = self._saved()
        self.faults = BadRecords(skip=config.skip_bad, count=saved.get("bad", 0), first=saved.get("first_bad"))
        self.place = Place(**saved.get("place", {}))
        self.repeats = HeldOutDocuments(self._held_out_pieces(), saved.get("repeats"))
        self.tokenizer = self._tokenizer()
        states = saved.get("splits", {})
        self.writers = {
            split: SplitWriter(part, split, self.tokenizer, config.shard_tokens, states.get(split)) for split in SPLITS
        }

    def run(self, on_progress: Callable[[BuildProgress], None] | None) -> dict[str, Any]:
        """Read to the end; the index."""
        unsaved = 0
        try:
            for piece in documents.read(
                self.config.source, self.parts, self.config.text_field, self.faults, self.place
            ):
                split = self._split(piece)
                if split != "train" or not self.repeats.meet(piece.text, drop=self.config.drop_repeats):
                    self.writers[split].add(piece)
                self.place = piece.after
                unsaved += len(piece.text)
                if unsaved >= SAVED_CHARACTERS:
                    self._save()
                    unsaved = 0
                if on_progress is not None:
                    on_progress(self._progress())
            return self._finish()
        finally:
            for writer in self.writers.values():
                writer.close()

    def _finish(self) -> dict[str, Any]:
        splits = {split: writer.finish() for split, writer in self.writers.items()}
        empty = [split for split in SPLITS if not splits[split]["tokens"]]
        if empty:
            count = sum(split["documents"] for split in splits.values())
            (self.folder / PROGRESS).unlink(missing_ok=True)  # going on would come here again
            if "train" in empty and self.repeats.left_out:
                raise UserError(f"all training documents of {self.config.source} are held out too; use other texts.")
            raise UserError(
                f"{self.config.source} has {count} documents, of which none fell to {' and '.join(empty)}; use more "
                "text, a larger --held-out, or train=A,validation=B,test=C. Small texts are trained on as they are."
            )
        write_atomically(self.folder / UNIGRAMS, self.writers["train"].counts().tobytes())
        index = {
            "format": FORMAT,
            **{name: value for name, value in asdict(self.config).items() if name != "skip_bad"},
            "tokenizer_sha256": self.tokenizer.fingerprint(),
            "vocab_size": self.tokenizer.vocab_size,
            "dtype": self.writers["train"].dtype.name,
            "unigrams_sha256": sha256(self.folder / UNIGRAMS),
            "splits": splits,
            "bad_records": {"count": self.faults.count, "first": self.faults.first},
            "repeats": self.repeats.counts() | {"left_out": self.repeats.left_out},
            "notes": list(self.repeats.notes(self.config.source, drop=self.config.drop_repeats)),
        }
        write_json(self.folder / INDEX, index)
        return index

    def _save(self) -> None:
        states = {split: writer.state() for split, writer in self.writers.items()}
        about = {"plan": self._plan(), "place": asdict(self.place), "splits": states}
        found = {"bad": self.faults.count, "first_bad": self.faults.first, "repeats": self.repeats.state()}
        write_json(self.folder / PROGRESS, about | found)

    def _saved(self) -> dict[str, Any]:
        path = self.folder / PROGRESS
        if not path.exists():
            return {}
        try:
            saved = read_object(path)
            before, now = saved["plan"], self._plan()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged ({error}); delete {self.folder} to begin anew.") from None
        changed = [name for name in now if before.get(name) != now[name]]
        if changed:
            raise UserError(
                f"{self.folder} was begun with another {' and '.join(changed)}; "
                "give what it was begun with, or delete it to begin anew."
            )
        return saved

    def _plan(self) -> dict[str, Any]:
        """What a resumed build must share with the one that was broken off."""
        own = {name: value for name, value in asdict(self.config).items() if name != "skip_bad"}
        return own | {"source's files": documents.plan(self.parts)}

    def _tokenizer(self) -> Tokenizer:
        path = self.folder / tokenizer.FILE
        if (self.folder / PROGRESS).exists():
            return tokenizer.load(path)
        found = tokenizer.build(self.config.tokenizer, self._training_texts())
        found.save(path)
        return found

    def _held_out_pieces(self) -> Iterator[Piece]:
        """What the source itself holds out, read ahead of the training documents that may be the same."""
        for number, part in enumerate(self.parts):
            if part.split in ("validation", "test"):
                yield from self._read(self.parts[: number + 1], Place(part=number))

    def _read(self, parts: list[documents.SourcePart], place: Place) -> Iterator[Piece]:
        """Pieces whose bad records are told of when they are read for good."""
        faults = BadRecords(skip=self.config.skip_bad)
        return documents.read(self.config.source, parts, self.config.text_field, faults, place)

    def _training_texts(self) -> Iterator[str]:
        """The training documents."""
        drop = self.config.drop_repeats
        for piece in self._read(self.parts, Place()):
            if self._split(piece) == "train" and not (drop and self.repeats.has(piece.text)):
                yield piece.text

    def _split(self, piece: Piece) -> str:
        """Where a piece belongs: by its hash, so that one that comes twice is not in two splits."""
        if piece.split is not None:
            return piece.split
        digest = hashlib.sha256(piece.text.encode("utf-8", errors="replace")).digest()
        place = int.from_bytes(digest[:8], "big") / 2**64
        number = int(place / self.config.held_out)
        return self.held[number] if number < len(self.held) else "train"

    def _progress(self) -> BuildProgress:
        tokens = sum(writer.tokens for writer in self.writers.values())
        total = sum(part.size for part in self.parts)
        done = sum(part.size for part in self.parts[: self.place.part])
        part = self.parts[self.place.part]
        if part.name.endswith(".gz") or part.encoding != UTF8:  # their bytes are not those of the file
            return BuildProgress(tokens=tokens, share=done / total if total else None)
        return BuildProgress(tokens=tokens, share=(done + self.place.offset) / total if total else None)


@contextmanager
def _unfinished(part: Path) -> Iterator[None]:
    """The folder of a build, for this process alone; taken away if it is broken off before anything was saved."""
    part.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(part, os.O_RDONLY)
    try:
        _lock(descriptor, part)
        try:
            yield
        except BaseException:
            if not (part / PROGRESS).exists():
                shutil.rmtree(part, ignore_errors=True)
            raise
    finally:
        os.close(descriptor)


def _lock(descriptor: int, part: Path) -> None:
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"{part} is being made by another process; wait for it or stop it.") from None
    except (ImportError, OSError):  # Windows, or a file system without locks
        return
