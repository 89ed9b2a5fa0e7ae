"""A run is data: whoever reads, resumes or starts from one runs none of its code without saying so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from addnorm.cli import main
from addnorm.config import RunConfig
from addnorm.consent import consented
from addnorm.errors import UserError
from addnorm.training.run import train

CODE = '''
from dataclasses import dataclass
from pathlib import Path
from addnorm.tasks.language_modeling import LanguageModeling as Base

Path("{marker}").touch()

@dataclass(frozen=True, kw_only=True)
class Mine(Base):
    """Language modeling, by a file."""

    spare: int = 0
'''
TINY = {"d_model": 8, "num_heads": 2, "num_layers": 1, "context": 8, "batch_size": 2, "steps": 2, "evaluations": 1}
TINY |= {"evaluation_tokens": 64, "signals": 0, "score_items": 0}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose task is a file in its own folder; `ran` tells whether that was imported."""
    folder = tmp_path / "run"
    train(RunConfig(**TINY), folder)
    code = folder / "task.py"
    code.write_text(CODE.format(marker=tmp_path / "ran"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"task": f"{code}(spare=1)"}))
    for name in ("manifest.json",):  # as who makes such a folder would see to
        (folder / name).unlink(missing_ok=True)
    return folder


@pytest.mark.parametrize(
    "words",
    [
        ["generate", "{run}", "A", "--max-new-tokens=2"],
        ["predict", "{run}", "A"],
        ["evaluate", "{run}", "--limit=2", "--no-baselines"],
        ["train", "--resume", "--out={run}"],
        ["train", "--config={run}/config.json", "--print-config"],
        ["lr-range", "--config={run}/config.json"],
        ["compare", "--config={run}/task.toml", "--print-config"],
    ],
)
def test_a_stored_task_runs_no_code(
    words: list[str], run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "task.toml").write_text(f'task = "{run}/task.py"\n')
    assert main([word.format(run=run) for word in words]) == 2
    assert not (tmp_path / "ran").exists()
    assert f"{run}/task.py" in (said := capsys.readouterr().err) and "--task" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "words", [["generate", "{run}", "A", "--max-new-tokens=2"], ["evaluate", "{run}", "--limit=2", "--no-baselines"]]
)
def test_it_runs_where_the_call_names_it(words: list[str], run: Path, tmp_path: Path) -> None:
    assert main([*(word.format(run=run) for word in words), f"--task={run}/task.py"]) == 0
    assert (tmp_path / "ran").exists()


def test_the_file_that_runs_is_the_callers(tmp_path: Path) -> None:
    assert consented("theirs.py(a=1, b=2)", "mine.py", tmp_path) == "mine.py(a=1, b=2)"
    with pytest.raises(UserError, match="leave --task out"):
        consented("translation", "mine.py", tmp_path)


@pytest.mark.parametrize("name", ["../other.safetensors", "/tmp/other.safetensors", "model.bin", 3])
def test_an_index_of_weights_names_files_beside_it_only(name: object, tmp_path: Path) -> None:
    from addnorm.interop.weight_files import weight_files

    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(UserError, match="damaged"):
        weight_files(tmp_path)
