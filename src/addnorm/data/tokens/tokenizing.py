"""What a token store is made of and how, as plain data; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field

from addnorm.checks import check_count, check_probability
from addnorm.errors import UserError


@dataclass(frozen=True, kw_only=True)
class TokenizeConfig:
    """What becomes tokens, and how."""

    source: str = field(metadata={"positional": "SOURCE"})
    """A text file, a file of JSON lines (.jsonl), either also gzipped (.gz), a folder of such files,
    "train=A,validation=B,test=C", each with ";encoding=NAME" behind it where it is not in UTF-8, or
    hf:NAME[:CONFIG][:COLUMN] of a `datasets` data set, which is streamed."""
    tokenizer: str = "byte"
    """byte, bpe:SIZE to train a byte-level BPE on the first 20 million characters of the training documents, or
    hf:FOLDER for the tokenizer of a Hugging Face checkpoint or of a run."""
    text_field: str = "text"
    """Of a JSON record: the field that holds the text."""
    held_out: float = 0.05
    """Share of the documents, chosen by their hashes, for validation, and again for test, where these are not given."""
    shard_tokens: int = 100_000_000
    """Tokens of a shard's file."""
    skip_bad: bool = False
    """Leave out and list records that cannot be read (not UTF-8, not JSON, no such field) instead of stopping."""

    drop_repeats: bool = False
    """Leave documents out of training that the source's validation or test has too; they are counted in any case."""

    def __post_init__(self) -> None:
        check_count("shard_tokens", self.shard_tokens)
        check_probability("held_out", self.held_out)
        if not 0 < self.held_out < 0.5:
            raise UserError(f"held_out={self.held_out} is not allowed; use a share above 0 and below 0.5.")
