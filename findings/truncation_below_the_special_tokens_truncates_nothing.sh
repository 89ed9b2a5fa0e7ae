#!/usr/bin/env bash
# tokenizers 0.23.3: truncation to fewer tokens than the special ones leaves a text as long as it is.
#
# Expected: after `enable_truncation(n)` no encoding has more than n tokens; an n that does not hold the special
# tokens is refused, at the latest when a text is encoded.
# Observed: with [CLS] and [SEP] around a text of five tokens, n = 3 gives 3 tokens and n = 2 gives the two special
# ones. n = 1 gives all 7, without an error and without an overflow.
# Exits with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tokenizers==0.23.3
"$folder/venv/bin/python" - <<'PYTHON'
from tokenizers import Tokenizer, models, pre_tokenizers, processors

tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "[CLS]": 2, "[SEP]": 3}, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer.post_processor = processors.TemplateProcessing(
    single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
)
seen = []
for length in (3, 2, 1):
    tokenizer.enable_truncation(length)
    made = tokenizer.encode("a a a a a")
    print(f"truncated to {length}: {len(made.tokens)} tokens {made.tokens}, {len(made.overflowing)} overflowing")
    seen.append((len(made.tokens), len(made.overflowing) > 0))
assert [length for length, _ in seen] == [3, 2, 7] and not seen[2][1], "the behaviour has changed"
PYTHON
