#!/usr/bin/env bash
# tokenizers 0.23.3: `add_tokens` of tokens that the vocabulary has adds nothing to it, and still changes how words
# split.
#
# Expected: adding a token that exists is a no-op (the vocabulary stays as large as it was, with the same ids).
# Observed: the token becomes one that is cut out of the text before the model sees it, inside words too: a BPE with
# the merge a + b gives "ab" one token, and two after `add_tokens(["a"])`; a WordLevel model that had [UNK] for the
# word "ab" finds two words in it.
# Exits with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tokenizers==0.23.3
"$folder/venv/bin/python" - <<'PYTHON'
from tokenizers import Tokenizer, models, pre_tokenizers

bpe = Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]))
words = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "b": 2}, "[UNK]"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
seen = []
for name, tokenizer in (("BPE", bpe), ("WordLevel", words)):
    before, vocabulary = tokenizer.encode("ab").tokens, tokenizer.get_vocab()
    tokenizer.add_tokens(["a"])
    after = tokenizer.encode("ab").tokens
    print(f"{name}: 'ab' was {before}, is {after}; the same vocabulary: {tokenizer.get_vocab() == vocabulary}")
    seen.append((before, after, tokenizer.get_vocab() == vocabulary))
assert seen == [(["ab"], ["a", "b"], True), (["[UNK]"], ["a", "b"], True)], "the behaviour has changed"
PYTHON
