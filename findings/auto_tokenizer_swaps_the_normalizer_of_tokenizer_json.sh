#!/usr/bin/env bash
# transformers 5.23.0: without a tokenizer_config.json, AutoTokenizer gives other ids than the tokenizer.json it
# read.
#
# Expected: tokenizer.json is the whole pipeline (normaliser, split, model), so that AutoTokenizer gives the ids
# that `tokenizers` gives for the same file; special tokens may be added.
# Observed: beside a config.json of BERT or GPT-2 it takes only the vocabulary from the file and rebuilds the rest
# from the class of that model: a cased WordPiece is lower-cased (the id of "apple" for "Apple"), and a byte-level
# BPE whose normaliser lower-cases gets none ("Apple" falls into pieces). Beside a config of Llama, or with
# `PreTrainedTokenizerFast`, the file is used as it is.
# Exits with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet transformers==5.23.0 tokenizers==0.23.3
"$folder/venv/bin/python" - <<'PYTHON'
import tempfile

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, BertConfig, GPT2Config, LlamaConfig, PreTrainedTokenizerFast

SMALL, TEXT = {"vocab_size": 300, "bos_token_id": 0, "eos_token_id": 0}, "Apple pie"


def cased_wordpiece():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "Apple", "apple", "pie"]
    made = Tokenizer(models.WordPiece({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(lowercase=False), pre_tokenizers.BertPreTokenizer()
    return made


def lowercase_bpe():
    made = Tokenizer(models.BPE())
    made.normalizer, made.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.train_from_iterator(["apple pie apple pie"] * 5, trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<|endoftext|>"],
        show_progress=False))  # fmt: skip
    return made


def loaded(file, config, reader=AutoTokenizer):
    with tempfile.TemporaryDirectory() as folder:
        file.save(f"{folder}/tokenizer.json")
        config.save_pretrained(folder)
        return reader.from_pretrained(folder)(TEXT, add_special_tokens=False)["input_ids"]


seen = {}
for name, file, config in (
    ("cased WordPiece, BERT", cased_wordpiece(), BertConfig(**SMALL)),
    ("lower-case BPE, GPT-2", lowercase_bpe(), GPT2Config(**SMALL)),
    ("lower-case BPE, Llama", lowercase_bpe(), LlamaConfig(**SMALL)),
):
    ids, auto, fast = file.encode(TEXT).ids, loaded(file, config), loaded(file, config, PreTrainedTokenizerFast)
    print(f"{name}: tokenizers {ids}, PreTrainedTokenizerFast {fast}, AutoTokenizer {auto}")
    assert fast == ids, "the behaviour has changed"
    seen[name] = auto == ids
assert list(seen.values()) == [False, False, True], "the behaviour has changed"
PYTHON
