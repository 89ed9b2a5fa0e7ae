from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from addnorm import tasks
from addnorm.files import read_json_lines
from addnorm.studies.compare import compare
from addnorm.studies.dry_run import estimate, total_wall_s
from addnorm.studies.runner import StudyProgress
from addnorm.studies.spec import CompareConfig, runs
from addnorm.studies.store import Store
from addnorm.training.interruption import Interrupted
from addnorm.training.run import train
from studies.run_folders import read

VERSE = "".join(f"{n} green bottles hanging on the wall, and if one should fall\n" for n in range(400))


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> CompareConfig:
    text = tmp_path_factory.mktemp("data") / "verse.txt"
    text.write_text(VERSE)
    return CompareConfig(
        schemes=("pre-norm", "post-norm"),
        layers=(1,),
        d_model=16,
        num_heads=2,
        context=16,
        batch_size=4,
        tokens=(64 * 60,),
        learning_rates=(1e-2,),
        seeds=2,
        data=str(text),
        evaluations=2,
        evaluation_tokens=256,
        signals=1,
        workers=1,
    )


@pytest.fixture(scope="module")
def stopped_and_resumed(
    spec: CompareConfig, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any], list[Path]]:
    """The folder of a comparison that Ctrl-C stopped after its first run, its results, and what stood at the stop."""
    out = tmp_path_factory.mktemp("compare") / "out"

    def stop_after_one(progress: StudyProgress) -> None:
        if progress.done == 1 and progress.message:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted) as stop:
        compare(spec, out, progress=stop_after_one)
    assert stop.value.exit_code == 130
    ended = list(out.rglob("result.json"))
    return out, compare(spec, out, resume=True), ended


Stopped = tuple[Path, dict[str, Any], list[Path]]


def test_it_learns_and_says_so(stopped_and_resumed: Stopped) -> None:
    out, results, ended = stopped_and_resumed
    # One had ended; the second was under way.
    assert len(ended) == 1 and len(list(out.rglob("result.json"))) == 4
    assert read(out / "results.json") == json.loads(json.dumps(results))
    assert results["failures"] == []
    for arm in results["arms"]:
        assert arm["validation_loss"]["n"] == 2 and arm["validation_loss"]["half_width"] is None
        assert arm["validation_loss"]["mean"] < min(curve["validation_loss"][0] for curve in arm["curves"]) - 0.3
    assert [arm["verdict"] for arm in results["arms"]][0] == "baseline"


def test_a_run_of_a_stopped_and_resumed_comparison_is_the_run_of_train(
    stopped_and_resumed: Stopped, spec: CompareConfig, tmp_path: Path
) -> None:
    out, _, _ = stopped_and_resumed
    torch.set_num_threads(1)  # as in a worker
    for run in runs(spec)[:2]:
        alone = train(run.config, tmp_path / run.name)
        # To the bit: same machine, same threads.
        assert read(Store(out).run_folder(run) / "result.json")["validation_loss"] == alone["validation_loss"]


def test_rows_are_written_once(stopped_and_resumed: Stopped) -> None:
    for path in stopped_and_resumed[0].rglob("metrics.jsonl"):
        steps = [row["step"] for row in read_json_lines(path) if row["event"] == "validation"]
        assert steps == [0, 30, 60]


def test_a_dry_run_counts_what_a_run_counts(stopped_and_resumed: Stopped, spec: CompareConfig) -> None:
    planned = estimate(spec)
    assert [row["scheme"] for row in planned] == ["pre-norm", "post-norm"]
    assert all(row["seconds"] > 0 and row["flops_per_token"] > 0 for row in planned)
    assert total_wall_s(planned, spec) > 0
    for row, arm in zip(planned, stopped_and_resumed[1]["arms"], strict=True):
        for name in ("id", "parameters", "connection_parameters", "activation_bytes"):
            assert row[name] == arm[name], name


def test_a_dry_run_counts_the_memory_and_the_parts_that_were_asked_for(spec: CompareConfig, tmp_path: Path) -> None:
    asked = replace(spec, schemes=("pre-norm",), seeds=1, memory="checkpoint", accumulate=2, steps=(2,))
    train(runs(asked)[0].config, tmp_path / "run")
    (row,), (plain,) = estimate(asked), estimate(replace(asked, memory="keep"))
    assert row["activation_bytes"] == read(tmp_path / "run" / "run.json")["activation_bytes"]
    assert row["activation_bytes"] < plain["activation_bytes"]


def test_runs_that_lose_their_patience_have_ended_and_are_compared(spec: CompareConfig, tmp_path: Path) -> None:
    # Without a learning rate the loss never falls: the second evaluation ends the run.
    asked = replace(spec, learning_rates=(0.0,), patience=1, evaluations=5)
    results = compare(asked, tmp_path / "out")
    assert results["failures"] == [] and [arm["seeds"] for arm in results["arms"]] == [[0, 1], [0, 1]]
    for run in runs(asked):
        result = read(Store(tmp_path / "out").run_folder(run) / "result.json")
        assert (result["status"], result["tokens"]) == ("stopped early", 64 * 12)
    for arm in results["arms"]:
        first = [curve["validation_loss"][0] for curve in arm["curves"]]
        assert arm["validation_loss"]["mean"] == pytest.approx(sum(first) / len(first))
    assert any("stopped early" in note for note in results["notes"])
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("result.json")}
    compare(asked, tmp_path / "out", resume=True)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("result.json")}


def test_arms_of_a_seed_see_the_same_batches_and_start_from_the_same_sublayers(spec: CompareConfig) -> None:
    first = [run.config for run in runs(spec) if run.config.seed == 0]
    batches = [tasks.prepare(config).train_batch(3) for config in first]
    assert all(bool((inputs == batches[0][0]).all()) for inputs, _ in batches)
    weights = [
        {name: p for name, p in tasks.prepare(config).build().named_parameters() if ".sublayer." in name}
        for config in first
    ]
    assert weights[0].keys() == weights[1].keys() and weights[0]
    assert all(bool((weights[0][name] == weights[1][name]).all()) for name in weights[0])
