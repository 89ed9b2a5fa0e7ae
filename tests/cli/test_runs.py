"""`addnorm runs`: what was trained, as a list, and what is done with one of them."""

from __future__ import annotations

import json
import os
import webbrowser

import pytest

from addnorm.studies.stored_runs import stored_runs
from addnorm.training.lock import FolderLock
from command_line import apart, here

HOUR = 3600


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with three runs an hour apart, one of them still without a result, and a comparison of two."""
    monkeypatch.chdir(tmp_path)
    run("first", hours=1, task="translation", layers=3, result={"status": "finished", "validation_loss": 2.5})
    run("second", hours=2, result={"status": "diverged", "validation_loss": "nan"})
    run("third", hours=4)
    spec = {"task": "language-modeling", "schemes": ["pre-norm", "mhc"], "layers": [2], "seeds": 1}
    write("runs/both/spec.json", spec | {"learning_rates": [0.1]})
    for scheme, loss in (("pre-norm", 1.25), ("mhc", 1.5)):
        name = f"both/runs/{scheme}-L2-lr0.1/seed-0"
        run(name, hours=3, scheme=scheme, result={"status": "finished", "validation_loss": loss})
    arms = [{"validation_loss": {"mean": loss}} for loss in (1.25, 1.5)]
    write("runs/both/results.json", {"arms": arms, "failures": []})
    for file in ("spec.json", "results.json"):
        os.utime(f"runs/both/{file}", (3 * HOUR, 3 * HOUR))
    return tmp_path


def run(name, *, hours, task="language-modeling", scheme="pre-norm", layers=2, result=None):
    folder = f"runs/{name}"
    write(f"{folder}/config.json", {"task": task, "scheme": scheme, "num_layers": layers, "data": "shakespeare"})
    write(f"{folder}/run.json", {"parameters": 1000})
    write(f"{folder}/metrics.jsonl", {})
    if result is not None:
        write(f"{folder}/result.json", result)
    for file in os.listdir(folder):
        os.utime(f"{folder}/{file}", (hours * HOUR, hours * HOUR))


def write(path, value):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        json.dump(value, file)


def listed(*words):
    return json.loads(here("runs", *words, "--json").out)


def test_the_newest_stands_first_and_a_comparison_counts_once(home, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")  # narrower tables break the two schemes' names over two lines
    found = listed()
    assert [one["path"] for one in found] == ["runs/third", "runs/both", "runs/second", "runs/first"]
    assert [one["status"] for one in found] == ["unfinished", "finished", "diverged", "finished"]
    assert found[1]["schemes"] == ["pre-norm", "mhc"] and found[1]["loss"] == 1.25
    assert found[3]["task"] == "translation" and found[3]["layers"] == [3]
    table = here("runs").out
    assert table.index("third") < table.index("both") < table.index("second") < table.index("first")
    assert all(word in table for word in ("pre-norm, mhc", "diverged", "1.250", "1970-01-01"))


def test_its_size_is_that_of_all_its_files(home):
    (home / "runs" / "first" / "checkpoints").mkdir()
    before = {one["path"]: one["bytes"] for one in listed()}
    (home / "runs" / "first" / "checkpoints" / "weights").write_bytes(b"x" * 1000)
    assert {one["path"]: one["bytes"] - before[one["path"]] for one in listed()}["runs/first"] == 1000


def test_a_report_or_an_evaluation_later_makes_no_run_newer(home):
    (home / "runs" / "first" / "scores-test.json").write_text("{}")
    assert listed()[-1]["path"] == "runs/first"


def test_a_run_that_is_being_trained_is_said_to_run_and_is_not_touched(home):
    with FolderLock(home / "runs" / "third"):
        assert listed()[0]["status"] == "running"
        for words in (("rename", "third", "other"), ("delete", "third", "--yes")):
            seen = here("runs", *words)
            assert seen.code == 2 and "is being trained by another process" in seen.err
    assert listed()[0]["status"] == "unfinished"


def test_looking_at_a_run_does_not_keep_it_from_being_trained(home):
    stored_runs(home / "runs")
    FolderLock(home / "runs" / "third").claim()


def test_a_comparison_that_goes_on_says_how_far_it_is(home):
    (home / "runs" / "both" / "results.json").unlink()
    os.remove("runs/both/runs/mhc-L2-lr0.1/seed-0/result.json")
    assert next(one["status"] for one in listed() if one["path"] == "runs/both") == "unfinished, 1 of 2 runs"


def test_a_damaged_file_hides_no_run(home):
    (home / "runs" / "first" / "config.json").write_text("{")
    (home / "runs" / "both" / "spec.json").write_text("[1]")
    assert len(listed()) == 4 and here("runs").code == 0


def test_one_run_is_shown_by_its_name_or_its_path(home):
    by_name, by_path = (here("runs", "show", word).out for word in ("first", "runs/first"))
    assert by_name == by_path and "translation, data shakespeare" in by_name and "2.500" in by_name
    whole = json.loads(here("runs", "show", "both", "--json").out)
    assert [one["schemes"] for one in whole["runs"]] == [["mhc"], ["pre-norm"]]
    assert whole["spec"]["seeds"] == 1
    assert "seed-0" in here("runs", "show", "both").out


def test_a_name_that_is_not_there_is_answered_with_the_nearest(home):
    seen = here("runs", "show", "frist")
    assert seen.code == 2 and seen.is_one_line_of_error() and "did you mean 'first'?" in seen.err


def test_a_renamed_run_stays_where_it_is(home):
    assert here("runs", "rename", "first", "translator").code == 0
    assert (home / "runs" / "translator" / "config.json").is_file() and not (home / "runs" / "first").exists()
    for name, said in (("second", "exists already"), ("a/b", "no name of a folder"), ("..", "no name of a folder")):
        seen = here("runs", "rename", "translator", name)
        assert seen.code == 2 and said in seen.err


def test_nothing_is_deleted_unless_somebody_says_yes(home):
    assert here("runs", "delete", "first").code == 2
    assert (home / "runs" / "first").exists()
    assert here("runs", "delete", "first", "--yes").code == 0
    assert not (home / "runs" / "first").exists()


@pytest.mark.parametrize("folder", [".", "runs", "runs/both/runs"])
def test_what_is_no_run_is_not_deleted(home, folder):
    assert here("runs", "delete", folder, "--yes").code == 2
    assert len(listed()) == 4


@pytest.mark.parametrize("words", [("rename", "other"), ("delete", "--yes")])
def test_a_part_of_a_comparison_is_neither_renamed_nor_deleted(words, home):
    part = "runs/both/runs/mhc-L2-lr0.1/seed-0"
    seen = here("runs", words[0], part, *words[1:])
    assert seen.code == 2 and "is a part of the comparison" in seen.err and (home / part).exists()


def test_a_link_is_not_followed_to_be_deleted(home):
    (home / "runs" / "link").symlink_to(home / "runs" / "first")
    seen = here("runs", "delete", "link", "--yes")
    assert seen.code == 2 and "is a link" in seen.err and (home / "runs" / "first").exists()


def test_a_comparison_opens_with_its_report_and_a_run_with_its_folder(home, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda where: opened.append(where) or True)
    (home / "runs" / "both" / "report.html").touch()
    assert here("runs", "open", "both").code == here("runs", "open", "first").code == 0
    assert opened == [(home / "runs" / "both" / "report.html").as_uri(), (home / "runs" / "first").as_uri()]


def test_where_nothing_was_trained_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "addnorm train" in here("runs").err
    (tmp_path / "runs").mkdir()
    assert here("runs").out == "runs holds no run.\n"


def test_it_does_not_wait_for_torch(home):
    seen = apart("runs", cwd=home, python=("-X", "importtime"))
    assert seen.code == 0 and "third" in seen.out
    assert not {line.rpartition("|")[2].strip() for line in seen.err.splitlines()} & {"torch", "numpy"}
