#!/usr/bin/env bash
# tokenizers 0.23.3: special tokens added before training keep their ids, and training gives the same ids to other
# tokens.
#
# Expected: `add_special_tokens`, then `train`: the trainer leaves room for the tokens that the tokenizer has, or
# drops them, or they move behind the new vocabulary, as they do when added afterwards.
# Observed: "<x>" has id 0 and so has "a": two tokens, one id, one row of an embedding. No warning; `get_vocab_size`
# counts both, so that the largest id is one less than expected, and `decode` of the id of "a" gives "<x>".
# `special_tokens=` of the trainer, or adding them after it, avoids it.
# Exits with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tokenizers==0.23.3
"$folder/venv/bin/python" - <<'PYTHON'
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer.add_special_tokens(["<x>"])
tokenizer.train_from_iterator(["aa bb aa bb"], trainers.BpeTrainer(vocab_size=20, show_progress=False))
vocabulary = tokenizer.get_vocab()
a_word = tokenizer.encode("a").ids
print("vocabulary:", vocabulary, "size:", tokenizer.get_vocab_size())
print("ids of '<x>':", tokenizer.encode("<x>").ids, "ids of 'a':", a_word)
print("decoded 'a':", repr(tokenizer.decode(a_word, skip_special_tokens=False)))
assert tokenizer.encode("<x>").ids == a_word == [0], "the behaviour has changed"
assert tokenizer.get_vocab_size() == 5 and max(vocabulary.values()) == 3, "the behaviour has changed"
assert tokenizer.decode(a_word, skip_special_tokens=False) == "<x>", "the behaviour has changed"
PYTHON
