#!/usr/bin/env bash
# tokenizers 0.23.3: a BPE without `unk_token` deletes unknown characters, merges over the hole and shifts the
# offsets.
#
# Expected: a character that is not in the vocabulary raises, or is left out but ends the merge and keeps its place
# in the offsets: "aXb" is not "ab".
# Observed: with the vocabulary a, b, ab, the text "aXb" gives the single token "ab", and its offsets (0, 2) are
# "aX" in the text; in "XXab" the offsets of "ab" are those of "XX". A text of unknown characters gives no token at
# all. With `unk_token` the same model gives a, [UNK], b at the right places.
# Exits with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tokenizers==0.23.3
"$folder/venv/bin/python" - <<'PYTHON'
from tokenizers import Tokenizer, models

plain = Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]))
with_unk = Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2, "[UNK]": 3}, [("a", "b")], unk_token="[UNK]"))
seen = {}
for name, tokenizer in (("no unk_token", plain), ("unk_token", with_unk)):
    for text in ("ab", "aXb", "XXab", "XX"):
        made = tokenizer.encode(text)
        seen[name, text] = made.tokens, [text[slice(*offset)] for offset in made.offsets]
        print(f"{name}, {text!r}: tokens {made.tokens}, text at their offsets {seen[name, text][1]}")
assert list(seen.values()) == [
    (["ab"], ["ab"]),
    (["ab"], ["aX"]),
    (["ab"], ["XX"]),
    ([], []),
    (["ab"], ["ab"]),
    (["a", "[UNK]", "b"], ["a", "X", "b"]),
    (["[UNK]", "[UNK]", "ab"], ["X", "X", "ab"]),
    (["[UNK]", "[UNK]"], ["X", "X"]),
], "the behaviour has changed"
PYTHON
