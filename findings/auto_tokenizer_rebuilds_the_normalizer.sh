#!/usr/bin/env bash
# transformers 5.23.0: AutoTokenizer on a folder with a complete tokenizer.json, a config.json of model_type bert and no
# tokenizer_config.json.
#
# Expected: the tokenizer that tokenizer.json describes. It is a whole pipeline (normalizer, pre-tokenizer, model,
# post-processor), and `tokenizers.Tokenizer.from_file` gives it.
# Observed: the class of the model's type is built with its own default normalizer. A cased vocabulary is read in lower
# case and without accents, so other ids come out, without a warning. With a tokenizer_config.json that names
# PreTrainedTokenizerFast the file is taken as it is.
#
# Exits non-zero if this is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "transformers==5.23.0"
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PYTHON'
import json
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer

words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "Paris", "paris", "Zoë", "zoe"]
made = Tokenizer(models.WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
made.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
made.add_special_tokens(words[:5])
folder = Path("checkpoint")
folder.mkdir()
made.save(str(folder / "tokenizer.json"))
(folder / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": len(words)}))


def ids() -> list[int]:
    return AutoTokenizer.from_pretrained(folder)("Paris Zoë", add_special_tokens=False)["input_ids"]


file, bare = Tokenizer.from_file(str(folder / "tokenizer.json")).encode("Paris Zoë").ids, ids()
(folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
named = ids()
print(f"tokenizer.json: {file}; AutoTokenizer without tokenizer_config.json: {bare}; with a class named: {named}")
assert file == named == [5, 7], "the file is read otherwise"
assert bare == [6, 8], "AutoTokenizer no longer builds another normalizer"
PYTHON
