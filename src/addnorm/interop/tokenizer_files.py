"""A tokenizer of ours as the files from which AutoTokenizer of transformers makes one that gives the same ids."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from addnorm.data.tokens.pretrained_tokenizer import PretrainedTokenizer
from addnorm.data.tokens.tokenizer import UNUSED_BYTES, BPETokenizer, ByteTokenizer, Tokenizer
from addnorm.errors import UserError

TOKENIZER_CONFIG = "tokenizer_config.json"
_NAMES = ("<s>", "</s>", "<pad>")
"""Of `UNUSED_BYTES` in the files. As the characters that stand for these bytes, they would be found in texts."""


@dataclass(frozen=True, kw_only=True)
class TokenizerFiles:
    """What is written of a tokenizer.

    Args:
        serialized: the tokenizer.json.
        config: the tokenizer_config.json.
        ids: of the special tokens, by "bos", "eos", "pad", "unk", "cls", "sep" and "mask", of which some may lack.
    """

    serialized: dict[str, Any]
    config: dict[str, Any]
    ids: dict[str, int]


def tokenizer_files(tokenizer: Tokenizer, *, framed: bool, segments: bool, longest: int | None) -> TokenizerFiles:
    """A tokenizer's files.

    The class is named that takes a tokenizer.json as it is: the one that belongs to the model's type makes another
    normaliser, and adds special tokens beyond the vocabulary. Words of special tokens in a text stay text, as here.

    Args:
        tokenizer: one of this library's.
        framed: whether the model reads texts between the tokens of `Tokenizer.frame`, as encoders do.
        segments: whether it is told which text each token is of.
        longest: tokens that it can read at most; None = any number.

    Raises:
        UserError: it is of another library.
    """
    serialized = _serialized(tokenizer, framed) | {"padding": None, "truncation": None}
    read = PretrainedTokenizer(json.dumps(serialized))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", *(["token_type_ids"] if segments else []), "attention_mask"],
        "padding_side": "right" if framed else "left",  # a prompt is continued at its right end
        "split_special_tokens": True,
        "clean_up_tokenization_spaces": False,
        **({} if longest is None else {"model_max_length": longest}),
        **{f"{kind}_token": name for kind, name in read.special_tokens.items()},
    }
    return TokenizerFiles(serialized=serialized, config=config, ids=read.special_ids)


def _serialized(tokenizer: Tokenizer, framed: bool) -> dict[str, Any]:
    if isinstance(tokenizer, PretrainedTokenizer):
        return json.loads(tokenizer.serialized)
    if isinstance(tokenizer, BPETokenizer):
        return _with_names(json.loads(tokenizer.serialized), framed)
    if isinstance(tokenizer, ByteTokenizer):
        return _with_names(_bytes_as_bpe(), framed)
    raise UserError(f"a {type(tokenizer).__name__} cannot be written for transformers; give a tokenizer of addnorm.")


def _bytes_as_bpe() -> dict[str, Any]:
    """A byte-level BPE without merges, in which each byte has the id of its value."""
    return {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": _byte_level(add_prefix_space=False, use_regex=False),
        "post_processor": None,
        "decoder": _byte_level(add_prefix_space=True, use_regex=True),
        "model": {"type": "BPE", "vocab": {token: byte for byte, token in enumerate(_byte_tokens())}, "merges": []},
    }


def _byte_level(**options: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "trim_offsets": True, **options}


def _byte_tokens() -> list[str]:
    """What byte-level BPE writes for each byte: its character where that can be seen, else one from U+0100 on.

    >>> [_byte_tokens()[byte] for byte in b"A a"]
    ['A', 'Ġ', 'a']
    """
    seen = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in seen else chr(next(others)) for byte in range(256)]


def _with_names(file: dict[str, Any], framed: bool) -> dict[str, Any]:
    """The bytes that no text has as special tokens; a BPE of another origin, which may use them, stays as it is."""
    names = {chr(byte): name for byte, name in zip(UNUSED_BYTES, _NAMES, strict=True)}
    model, splits = file["model"], file.get("pre_tokenizer") or {}
    vocabulary = model["vocab"]
    merged = {part for merge in model["merges"] for part in (merge.split(" ") if isinstance(merge, str) else merge)}
    is_free = names.keys() <= vocabulary.keys() and not (names.keys() & merged or vocabulary.keys() & set(_NAMES))
    if splits.get("type") != "ByteLevel" or not is_free:
        return file
    renamed = {names.get(token, token): number for token, number in vocabulary.items()}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": renamed[name], "content": name, **flags} for name in _NAMES]
    return file | {
        "model": model | {"vocab": renamed},
        "added_tokens": added,
        "post_processor": _framing(renamed) if framed else file.get("post_processor"),
    }


def _framing(ids: dict[str, int]) -> dict[str, Any]:
    """<s> text </s>, or <s> text </s> text </s>."""

    def mark(name: str, segment: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": name, "type_id": segment}}

    def text(name: str, segment: int) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": segment}}

    start, end, _ = _NAMES
    single = [mark(start, 0), text("A", 0), mark(end, 0)]
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, text("B", 1), mark(end, 1)],
        "special_tokens": {name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in (start, end)},
    }
