"""A scheme of the user's own file, or of an installed package, in every command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from addnorm import UserError
from addnorm.training.load import load_run
from command_line import here

MINE = (Path(__file__).parents[2] / "examples" / "your_own_scheme.py").read_text()
TINY = [
    "--d-model=8",
    "--num-heads=2",
    "--context=8",
    "--batch-size=2",
    "--evaluation-tokens=64",
    "--signals=0",
    "--score-items=0",
]
TRAIN = ["train", *TINY, "--num-layers=1", "--steps=4", "--evaluations=1", "--saves=2"]
COMPARE = ["compare", *TINY, "--layers=1", "--steps=2", "--evaluations=1", "--seeds=1", "--workers=1"]
TEXT = "./mine.py(alpha=0.3)"
pytestmark = pytest.mark.slow  # trains, each in a folder of its own


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's working directory, with a scheme in it."""
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such a directory, with a run that was stopped at its end."""
    place = tmp_path_factory.mktemp("trained")
    (place / "mine.py").write_text(MINE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        seen = here(*TRAIN, f"--scheme={TEXT}", "--out=run")
        assert seen.code == 0, seen.err
        assert "addnorm evaluate run --scheme ./mine.py" in seen.out
    return place


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that directory, to work in."""
    place = tmp_path / "copy"
    shutil.copytree(trained, place)
    monkeypatch.chdir(place)
    return place


def told(seen: Any, *said: str) -> None:
    """One line, with all of that in it, and no traceback."""
    assert seen.code == 2 and seen.err.count("\n") == 1, seen.err
    assert all(text in seen.err for text in said), seen.err


ASKED = (["evaluate", "run", "--limit=2", "--no-baselines"], ["generate", "run", "A", "--max-new-tokens=2"])


@pytest.mark.parametrize("words", [*ASKED, ["predict", "run", "A"]])
def test_a_run_answers_with_the_file_that_it_was_trained_by(words: list[str], run: Path) -> None:
    told(here(*words), "run/config.json asks to run the code in ./mine.py", f"add --scheme '{TEXT}'")
    assert here(*words, "--scheme=./mine.py").code == 0
    elsewhere = run / "elsewhere.py"
    (run / "mine.py").rename(elsewhere)
    assert here(*words, f"--scheme={elsewhere}").code == 0
    told(here(*words, "--scheme=./mine.py"), "./mine.py cannot be read (No such file or directory)")
    elsewhere.write_text(MINE + "\n# changed")
    told(here(*words, f"--scheme={elsewhere}"), "elsewhere.py is not what run/config.json was made with", "put it back")
    told(here(*words, "--scheme=pre-norm"), "scheme=pre-norm came, but run/config.json is a run of ./mine.py")


def test_a_run_of_the_catalogue_takes_no_file(place: Path) -> None:
    assert here(*TRAIN, "--out=run").code == 0
    told(here(*ASKED[0], "--scheme=./mine.py"), "is a run of pre-norm; leave --scheme out")


def test_the_hash_of_the_file_is_stored_with_the_run(run: Path) -> None:
    import hashlib

    digest = hashlib.sha256((run / "mine.py").read_bytes()).hexdigest()
    assert json.loads((run / "run" / "run.json").read_text())["code"] == {"./mine.py": digest}
    model = load_run(Path("run"), scheme="mine.py").model
    with torch.no_grad():
        assert float(model.stack.blocks[0].connection.alpha) != 0.5


def test_a_stopped_run_goes_on_with_the_same_file_only(run: Path) -> None:
    (run / "run" / "result.json").unlink()
    whole = json.loads((run / "run" / "manifest.json").read_text())
    (run / "run" / "manifest.json").write_text(json.dumps({k: v for k, v in whole.items() if k != "result.json"}))
    (run / "run" / "manifest.json").unlink()
    told(here("train", "--resume", "--out=run"), "asks to run the code in ./mine.py", f"add --scheme '{TEXT}'")
    (run / "mine.py").write_text(MINE.replace("self.alpha * update", "self.alpha * update * 2"))
    told(here("train", "--resume", "--out=run", f"--scheme={TEXT}"), "./mine.py is not what run was made with")
    (run / "mine.py").write_text(MINE)
    told(here("train", "--resume", "--out=run", "--scheme=./mine.py"), "was started with another config: scheme:")
    (run / "mine.py").rename(run / "elsewhere.py")
    assert here("train", "--resume", "--out=run", "--scheme=./elsewhere.py(alpha=0.3)").code == 0


def test_a_run_starts_from_another_one_under_the_same_file(run: Path) -> None:
    told(here(*TRAIN, "--init=run", "--out=next"), "run/config.json asks to run the code in ./mine.py")
    seen = here(*TRAIN, "--init=run", "--scheme=./mine.py", "--out=next")
    assert seen.code == 0, seen.err
    stored = json.loads((run / "next" / "config.json").read_text())
    assert stored["scheme"] == TEXT  # what the call leaves open is as in the weights
    (line,) = json.loads((run / "next" / "run.json").read_text())["started_from"]
    assert line.startswith("started from run: ")  # all of it: nothing is new, nothing left out
    (run / "mine.py").write_text(MINE + "\n# changed")
    told(here(*TRAIN, "--init=run", "--scheme=./mine.py", "--out=third"), "./mine.py is not what run/config.json")


def test_a_comparison_trains_it_in_worker_processes_and_goes_on(place: Path) -> None:
    words = [*COMPARE, f"--schemes=pre-norm,{TEXT},gpas(inner=./mine.py)", "--out=out"]
    seen = here(*words)
    assert seen.code == 0, seen.err
    results = json.loads((place / "out" / "results.json").read_text())
    assert [arm["scheme"] for arm in results["arms"]] == ["pre-norm", TEXT, "gpas(inner=./mine.py)"]
    assert not results["failures"] and (place / "out" / "report.html").exists()
    folders = sorted(path.name for path in (place / "out" / "runs").iterdir())
    assert not any(name.startswith(".") for name in folders)
    told(here("compare", "--resume", "--out=out"), "asks to run the code in ./mine.py", "--schemes 'pre-norm,./mine.py")
    assert here("compare", "--resume", "--out=out", words[-2]).code == 0
    (place / "mine.py").write_text(MINE + "\n# changed")
    told(here("compare", "--resume", "--out=out", words[-2]), "./mine.py is not what out was made with")


def test_a_file_that_changes_during_a_comparison_trains_no_further_run(place: Path) -> None:
    from addnorm.config import RunConfig
    from addnorm.consent import code_of
    from addnorm.studies.worker import _answer

    code = code_of(TEXT)
    (place / "mine.py").write_text(MINE + "\n# changed")
    job = {"config": vars(RunConfig(scheme=TEXT)), "folder": "run", "resume": False, "code": code}
    answer = _answer(job, out=None)  # type: ignore
    assert answer["event"] == "failed" and "./mine.py is not what this comparison was made with" in answer["error"]


def test_a_comparison_starts_from_a_run_under_the_file(run: Path) -> None:
    words = [*COMPARE, "--init=run", "--out=out"]
    told(here(*words), "run/config.json asks to run the code in ./mine.py")
    seen = here(*words, "--schemes=pre-norm,./mine.py")
    assert seen.code == 0, seen.err
    spec = json.loads((run / "out" / "spec.json").read_text())
    assert spec["schemes"] == ["pre-norm", TEXT] and spec["baseline"] == TEXT
    assert not json.loads((run / "out" / "results.json").read_text())["failures"]


def test_a_stored_comparison_or_config_runs_no_code(place: Path) -> None:
    (place / "mine.py").write_text("open('ran', 'w')")
    (place / "arms.toml").write_text('schemes = ["pre-norm", "gpas(inner=./mine.py)"]')
    (place / "run.toml").write_text('scheme = "./mine.py:Mine(alpha=0.3)"')
    told(here("compare", "--config=arms.toml", "--print-config"), "code in ./mine.py", "--schemes 'pre-norm,gpas(")
    told(here("train", "--config=run.toml", "--print-config"), "code in ./mine.py", "--scheme './mine.py:Mine(alpha")
    told(here("lr-range", "--config=run.toml"), "code in ./mine.py")
    assert not (place / "ran").exists()


def test_a_learning_rate_is_found_for_it(place: Path) -> None:
    words = [word for word in TRAIN[1:] if not word.startswith(("--saves", "--evaluations"))]
    seen = here("lr-range", *words, "--steps=12", f"--scheme={TEXT}")
    assert seen.code == 0, seen.err


def test_its_certificate_is_whole(place: Path) -> None:
    seen = here("certify", TEXT, "--json")
    found = json.loads(seen.out)
    ours = json.loads(here("certify", "layer-scale(init=0.3)", "--json").out)
    assert found["subject"] == TEXT
    assert [item["name"] for item in found["findings"]] == [item["name"] for item in ours["findings"]]
    assert seen.code == 0 and not any(item["verdict"] == "fails" for item in found["findings"])


def test_what_a_file_prints_stays_out_of_json(place: Path) -> None:
    (place / "mine.py").write_text(MINE + "\nprint('imported')\n")
    assert json.loads(here("schemes", TEXT, "--json").out)["specification"] == TEXT


def test_a_run_of_two_files_is_asked_by_its_whole_text(place: Path) -> None:
    (place / "other.py").write_text(MINE + "\n# other")
    text = "by-layer(first=./mine.py, share=0.5, rest=./other.py)"
    seen = here(*TRAIN, f"--scheme={text}", "--out=run")
    assert f"addnorm evaluate run --scheme '{text}'" in seen.out, seen.err
    assert here(*ASKED[0], f"--scheme={text}").code == 0
    (place / "other.py").write_text(MINE + "\n# changed")
    told(here(*ASKED[0], f"--scheme={text}"), "./other.py is not what run/config.json was made with")


def test_it_is_described_as_ours_are(place: Path) -> None:
    seen = here("schemes", TEXT)
    assert seen.code == 0 and "Scaled Pre-LN: x <- x + alpha * F(n(x))." in seen.out
    assert "alpha = 0.5" in seen.out and "the strength of each branch at the start" in seen.out


def test_no_run_is_read_whose_file_nobody_names(run: Path) -> None:
    with pytest.raises(UserError, match="asks to run the code in ./mine.py"):
        load_run(Path("run"))
