#!/usr/bin/env bash
# datasets 5.2.0: the same strings come back as other things from JSON Lines and from CSV, and not the same other
# things.
#
# Expected: strings that are quoted in JSON stay strings; CSV, which has no types, is the format that guesses; and
# the two agree on what they guess.
# Observed: JSON Lines turns a column of strings such as "2024-01-02" or "2024-01-02T03:04:05Z" into timestamps
# without a time zone (one row that is no date keeps all of them strings), and keeps "NA" and "null". CSV keeps
# dates as strings, and turns "NA", "null" and "None", the last a word of English, into None. A dataset made by
# `from_list`, written by `to_json` and read again is not the same.
# Exits with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasets==5.2.0
"$folder/venv/bin/python" - <<'PYTHON'
import csv
import json
import tempfile

from datasets import Dataset, disable_progress_bars, load_dataset

disable_progress_bars()
columns = {
    "dates": ["2024-01-02", "2024-05-06"],
    "times": ["2024-01-02T03:04:05Z", "2024-05-06T00:00:00Z"],
    "a date and a word": ["2024-01-02", "today"],
    "missing": ["NA", "null"],
    "a word": ["None", "of these"],
}
seen = {}
with tempfile.TemporaryDirectory() as folder:
    for name, strings in columns.items():
        with open(f"{folder}/{name}.jsonl", "w") as file:
            file.writelines(json.dumps({"text": string}) + "\n" for string in strings)
        with open(f"{folder}/{name}.csv", "w", newline="") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows([["text"], *([string] for string in strings)])
        for kind, end in (("json", "jsonl"), ("csv", "csv")):
            read = load_dataset(kind, data_files=f"{folder}/{name}.{end}", split="train", cache_dir=f"{folder}/cache")
            print(f"{name}, {kind}: {[str(value) for value in read['text']]}")
            seen[name, kind] = read["text"][:] == strings
    made = Dataset.from_list([{"text": string} for string in columns["dates"]])
    made.to_json(f"{folder}/again.jsonl")
    again = load_dataset("json", data_files=f"{folder}/again.jsonl", split="train", cache_dir=f"{folder}/cache")
    print("from_list, to_json, read again:", made.features["text"], "->", again.features["text"])
assert seen == {
    ("dates", "json"): False, ("dates", "csv"): True, ("times", "json"): False, ("times", "csv"): True,
    ("a date and a word", "json"): True, ("a date and a word", "csv"): True, ("missing", "json"): True,
    ("missing", "csv"): False, ("a word", "json"): True, ("a word", "csv"): False,
}, "the behaviour has changed"  # fmt: skip
assert again.features["text"].dtype == "timestamp[s]", "the behaviour has changed"
PYTHON
