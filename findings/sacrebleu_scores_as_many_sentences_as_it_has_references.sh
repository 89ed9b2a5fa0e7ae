#!/usr/bin/env bash
# sacrebleu 2.6.0: with fewer references than translations it scores the first ones and says nothing.
#
# Expected: `corpus_bleu(translations, references)` takes one list for each set of references, each as long as the
# translations; another length is an error.
# Observed: one reference for three translations scores the first translation alone. So does the mistake of giving
# one list for each sentence: the lists are read as sets of references for the first translation, the other two are
# never looked at, and a corpus with two wrong translations of three gets BLEU, chrF and TER of a perfect one. Only
# the length in the signature of the score (`hyp_len`) tells.
# Exits with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet sacrebleu==2.6.0
"$folder/venv/bin/python" - <<'PYTHON'
import sacrebleu

translations = ["the cat sat on the mat", "this is quite wrong indeed", "so is this one too"]
references = ["the cat sat on the mat", "dogs run in the green park", "we had rain all day"]
cases = {
    "one list of three": [references],
    "one list of one": [references[:1]],
    "a list for each sentence": [[reference] for reference in references],
}
seen = {}
for name, given in cases.items():
    bleu = sacrebleu.corpus_bleu(translations, given)
    scores = bleu.score, sacrebleu.corpus_chrf(translations, given).score, sacrebleu.corpus_ter(translations, given).score
    seen[name] = [round(score) for score in scores], bleu.sys_len
    print(f"{name}: BLEU {scores[0]:.1f}, chrF {scores[1]:.1f}, TER {scores[2]:.1f}, tokens scored {bleu.sys_len}")
assert seen["one list of three"][0][0] < 60 and seen["one list of three"][1] == 16, "the behaviour has changed"
assert seen["one list of one"] == seen["a list for each sentence"] == ([100, 100, 0], 6), "the behaviour has changed"
PYTHON
