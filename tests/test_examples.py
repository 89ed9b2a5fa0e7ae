"""The examples run and show what they say."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

import addnorm
from addnorm.cli import main

EXAMPLES = Path(__file__).parent.parent / "examples"


def example(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_swapping_the_scheme_trains_each() -> None:
    losses = example("swap_the_scheme").main(steps=30)
    assert len(losses) == 3
    assert all(loss < 4.0 for loss in losses.values()), losses  # log(256) = 5.5 before training


def test_own_sublayers_run_under_any_scheme() -> None:
    assert set(example("your_own_sublayers").main().values()) == {(2, 10, 32)}


def test_the_last_depth_of_the_logit_lens_is_the_model() -> None:
    agreement = example("logit_lens").main()
    assert len(agreement) == 8
    assert agreement[-1] == 1.0


def test_a_task_in_one_file_learns_and_answers(tmp_path, capsys) -> None:
    task = str(EXAMPLES / "your_own_task.py")
    run = str(tmp_path / "run")
    assert example("your_own_task").Sorting.__doc__
    assert main(["train", "--task", task, "--steps", "60", "--learning-rate", "1e-2", "--out", run, "--seed", "1"]) == 0
    assert main(["evaluate", run, "--task", task, "--json"]) == 0
    score = json.loads((tmp_path / "run" / "scores-test.json").read_text())["scores"][0]
    capsys.readouterr()
    assert score["value"] > 3 * score["baseline"]
    assert main(["predict", run, "52903147", "--task", task]) == 0
    assert len(capsys.readouterr().out.strip()) == 8


def test_a_task_in_one_file_runs_by_itself() -> None:
    answer = example("your_own_task").main(steps=3)
    assert len(answer) == 8 and answer.isdigit()


def test_a_fault_is_named_where_it_was_made() -> None:
    assert example("diagnose_a_model").main() == ["dropped skip"]


def test_without_transformers_the_fault_of_torchs_encoder_is_named() -> None:
    file = example("diagnose_a_model")
    file.llama = file.encoder
    assert file.main() == ["mis-scaled branch"]


def test_a_loop_of_ones_own_is_recorded() -> None:
    rows = example("record_your_own_loop").main(steps=12)
    assert [row["step"] for row in rows] == [0, 10]
    assert all(len(row["state_rms"]) == len(row["blocks"]) == 4 for row in rows)


def test_a_run_is_loaded_and_continues_a_text() -> None:
    text = example("load_and_generate").main(steps=3)
    assert text.startswith("ROMEO:") and len(text) > len("ROMEO:")


def test_a_scheme_in_one_file_is_a_scheme() -> None:
    scaled = example("your_own_scheme").Scaled  # tests/test_testing.py and tests/cli/test_own_scheme.py do the rest
    assert addnorm.Transformer(scaled(), vocab_size=7, d_model=8, num_heads=2, num_layers=1).scheme.alpha == 0.5


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.stem)
def test_every_example_has_a_test_and_does_by_itself_what_the_test_calls(file: Path) -> None:
    assert f'example("{file.stem}")' in Path(__file__).read_text()
    assert file.read_text().endswith('\n\nif __name__ == "__main__":\n    main()\n')
    assert callable(example(file.stem).main)
