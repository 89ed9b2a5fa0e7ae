#!/usr/bin/env bash
# transformers 5.23.0: `save_pretrained` of a tokenizer writes how it was last called into tokenizer.json.
#
# Expected: padding and truncation are arguments of a call; saving writes the tokenizer, the same file whatever was
# encoded before. In the other direction, a tokenizer.json that truncates and pads does so when it is called.
# Observed: after one call with `padding="max_length", max_length=8, truncation=True` the saved tokenizer.json pads
# everything to 8 tokens and truncates to 8 when it is read with `tokenizers`. transformers does not notice: it
# ignores what the file says of both, so that a file made to truncate to 3 gives 6 tokens there, and 3 in
# `tokenizers`.
# Exits with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet transformers==5.23.0 tokenizers==0.23.3
"$folder/venv/bin/python" - <<'PYTHON'
import tempfile

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

WORDS = {"[UNK]": 0, "a": 1, "b": 2, "[CLS]": 3, "[SEP]": 4, "[PAD]": 5}


def made(truncated_to=None):
    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 3), ("[SEP]", 4)]
    )
    if truncated_to:
        tokenizer.enable_truncation(truncated_to)
    return tokenizer


def saved(tokenizer):
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        return Tokenizer.from_file(f"{folder}/tokenizer.json"), PreTrainedTokenizerFast.from_pretrained(folder)


fast = PreTrainedTokenizerFast(tokenizer_object=made(), pad_token="[PAD]", unk_token="[UNK]")
before = len(saved(fast)[0].encode("a").ids)
fast("b", padding="max_length", max_length=8, truncation=True)
raw, again = saved(fast)
after = len(raw.encode("a").ids), len(raw.encode("a " * 20).ids), len(again("a")["input_ids"])
print(f"'a' read with tokenizers: {before} tokens saved before the call, {after[0]} after it")
print(f"20 words read with tokenizers: {after[1]} tokens; 'a' read with transformers: {after[2]} tokens")
short = PreTrainedTokenizerFast(tokenizer_object=made(3), pad_token="[PAD]", unk_token="[UNK]")
ignored = len(made(3).encode("a b a b").ids), len(short("a b a b")["input_ids"])
print(f"a file that truncates to 3: {ignored[0]} tokens in tokenizers, {ignored[1]} in transformers")
assert (before, after, ignored) == (3, (8, 8, 3), (3, 6)), "the behaviour has changed"
PYTHON
