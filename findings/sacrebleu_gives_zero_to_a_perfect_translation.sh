#!/usr/bin/env bash
# sacrebleu 2.6.0: corpus BLEU of a perfect translation is 0 if no sentence of it has four tokens; its sentence BLEU
# is 100.
#
# Expected: a corpus that equals its reference scores 100, whatever the tokeniser: every precision is 1.
# Observed: two Chinese sentences of 14 characters score 0 with the tokeniser `13a`, which leaves each sentence as
# one token: there are no 3-grams and 4-grams, and a precision of 0 / 0 counts as 0 for a corpus. `sentence_bleu` of
# either gives 100 (it lowers the order), and so does `tokenize="zh"`. The same happens to English: three times
# "Hello world" scores 0.
# Exits with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet sacrebleu==2.6.0
"$folder/venv/bin/python" - <<'PYTHON'
import sacrebleu

chinese = ["今天天气很好，我们去公园吧。", "他在北京大学学习计算机科学。"]
english = ["Hello world"] * 3
seen = {
    "Chinese, corpus, 13a": sacrebleu.corpus_bleu(chinese, [chinese]).score,
    "Chinese, sentence, 13a": sacrebleu.sentence_bleu(chinese[0], [chinese[0]]).score,
    "Chinese, corpus, zh": sacrebleu.corpus_bleu(chinese, [chinese], tokenize="zh").score,
    "English, corpus of two words": sacrebleu.corpus_bleu(english, [english]).score,
    "English, sentence of two words": sacrebleu.sentence_bleu(english[0], [english[0]]).score,
}
for name, score in seen.items():
    print(f"{name}: {score:.1f}")
assert [round(score) for score in seen.values()] == [0, 100, 100, 0, 100], "the behaviour has changed"
PYTHON
