"""What a training run and a comparison share is one thing: type, help, checks, and it reaches every run."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest

from addnorm.cli.config_file import read_config
from addnorm.cli.flags import flags_of
from addnorm.config import Recipe, RunConfig
from addnorm.errors import UserError
from addnorm.studies.spec import CompareConfig, compare_config, runs
from addnorm.studies.store import Store
from addnorm.training.identity import fingerprint
from addnorm.training.run_folder import RunFolder
from command_line import here

SHARED = [field.name for field in fields(Recipe)]
STORED = Path(__file__).parent / "stored"
OTHER = {
    "task": "entailment",
    "data": "elsewhere.txt",
    "tokenizer": "bpe:300",
    "init": "normal",
    "drop_repeats": True,
    "skip_bad": True,
    "context": 48,
    "batch_size": 16,
    "max_tokens": 99,
    "segments": 3,
    "d_model": 48,
    "num_heads": 6,
    "num_kv_heads": 1,
    "d_ff": 24,
    "activation": "relu",
    "arrangement": "parallel",
    "position": "learned",
    "rotary_base": 500.0,
    "dropout": 0.1,
    "attention_dropout": 0.2,
    "qk_norm": "rms",
    "attention": "sliding-window",
    "window": 5,
    "bias": False,
    "tie_embeddings": False,
    "warm_up": 0.25,
    "schedule": "wsd",
    "decay": 0.3,
    "weight_decay": 0.4,
    "connection_learning_rate": 2.0,
    "clip_norm": 3.0,
    "accumulate": 2,
    "label_smoothing": 0.15,
    "ema": 0.9,
    "patience": 2,
    "spike": 6.0,
    "rollbacks": 1,
    "max_bad_steps": 7,
    "precision": "bfloat16",
    "memory": "checkpoint",
    "seed": 11,
    "evaluations": 3,
    "evaluation_tokens": 512,
    "signals": 2,
    "saves": 4,
    "score_items": 9,
    "track": ("tensorboard",),
}
"""A value for every shared field that neither a run nor a comparison has by default."""
ODD = (-1, 0, 1, 1.5, 2**70, 1e-9, float("nan"), float("inf"), "x", "", None, True, [], {"a": 1})


@pytest.mark.parametrize("name", SHARED)
def test_a_shared_field_has_the_same_type_and_help_in_both_commands(name: str) -> None:
    run, comparison = flags_of(RunConfig)[name], flags_of(CompareConfig)[name]
    assert (run.type, run.optional, run.text) == (comparison.type, comparison.optional, comparison.text)
    assert run.text


def test_other_fields_of_the_same_name_hold_one_value_there_and_one_for_each_depth_here() -> None:
    run, comparison = flags_of(RunConfig), flags_of(CompareConfig)
    own = (run.keys() & comparison.keys()) - set(SHARED)
    assert own == {"tokens", "steps", "seconds"}
    assert all(comparison[name].type == tuple[run[name].type, ...] for name in own)


def test_defaults_differ_where_a_comparison_is_meant_to_be_smaller_and_nowhere_else() -> None:
    run, comparison = flags_of(RunConfig), flags_of(CompareConfig)
    found = {name: (run[name].default, comparison[name].default) for name in SHARED}
    assert {name: pair for name, pair in found.items() if pair[0] != pair[1]} == {
        "d_model": (64, 32),
        "num_heads": (4, 2),
        "context": (64, 32),
        "warm_up": (0.05, 0.5),
        "evaluations": (10, 5),
        "evaluation_tokens": (16_384, 4_096),
        "score_items": (200, 0),
        "signals": (5, 4),
    }


@pytest.mark.parametrize("name", SHARED)
def test_a_shared_field_is_checked_alike(name: str) -> None:
    alike = {name: getattr(RunConfig(), name) for name in ("d_model", "num_heads", "warm_up")}
    for value in ODD:
        if name == "task" and isinstance(value, str):
            continue  # which tasks exist is asked where a task's defaults are
        said = [_said(kind, alike | {name: value}) for kind in (RunConfig, CompareConfig)]
        assert said[0] == said[1], value
        assert said[0] is None or f"{name}=" in said[0] or f"{name} '" in said[0] or f" {name} " in said[0], said[0]


def _said(kind: Any, values: dict[str, Any]) -> str | None:
    try:
        kind(**values)
    except UserError as error:
        return str(error)
    return None


def test_every_shared_field_reaches_every_run() -> None:
    assert OTHER.keys() == set(SHARED)
    assert all(OTHER[name] != getattr(kind, name) for name in SHARED for kind in (RunConfig, CompareConfig))
    planned = runs(CompareConfig(schemes=("pre-norm", "post-norm"), layers=(2, 3), seeds=2, **OTHER))
    assert len(planned) == 8
    for run in planned:
        for name in set(SHARED) - {"seed"}:
            assert getattr(run.config, name) == OTHER[name], name
    assert {run.config.seed for run in planned} == {11, 12}


def test_the_command_takes_every_shared_field_and_prints_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = [
        f"--{'' if value is not False else 'no-'}{name.replace('_', '-')}"
        + ("" if isinstance(value, bool) else f"={','.join(value) if isinstance(value, tuple) else value}")
        for name, value in OTHER.items()
        if name != "task"  # another task brings other defaults
    ]
    for command in ("train", "compare"):
        seen = here(command, *words, "--print-config")
        assert seen.code == 0, seen.err
        found = tomllib.loads(seen.out)
        assert {name: found[name] for name in SHARED if name != "task"} == {
            name: list(value) if isinstance(value, tuple) else value for name, value in OTHER.items() if name != "task"
        }
        (tmp_path / "a.toml").write_text(seen.out)
        assert here(command, "--config", "a.toml", "--print-config").out == seen.out


def test_what_is_left_open_is_settled_by_the_run() -> None:
    assert (RunConfig().max_tokens, RunConfig(context=4096).max_tokens) == (2048, 4096)
    assert RunConfig().segments == 0
    spec = CompareConfig(task="entailment", context=4096)
    assert {(run.config.max_tokens, run.config.segments) for run in runs(spec)} == {(4096, 2)}


def test_no_segments_given_means_those_of_the_task() -> None:
    for command in ("train", "compare"):
        seen = here(command, "--task", "entailment", "--init", "xavier", "--segments", "none", "--print-config")
        assert tomllib.loads(seen.out)["segments"] == 2


def test_a_run_that_an_earlier_release_stored_is_the_same_run(tmp_path: Path) -> None:
    config = RunConfig(scheme="post-norm", num_layers=2, context=32, steps=60)
    (tmp_path / "config.json").write_bytes((STORED / "config.json").read_bytes())
    assert RunFolder(tmp_path).config() == config
    assert fingerprint(config, "data") == "714b13ccab105c479ea603657549e058c6288ef4a79ce4633a78cc91f8cbbd9c"


def test_a_comparison_that_an_earlier_release_stored_is_the_same_comparison(tmp_path: Path) -> None:
    spec = CompareConfig(schemes=("post-norm",), layers=(2,), seeds=3, steps=(60,), task="entailment", num_kv_heads=1)
    stored = json.loads((STORED / "spec.json").read_text())
    assert not {"memory", "patience", "spike", "rollbacks", "max_bad_steps"} & stored.keys()
    assert compare_config(stored) == spec
    assert [fingerprint(run.config, "data") for run in runs(spec)][:2] == [
        "1aa3570e26966225ef520e0c9118302f8564ccc2516084f0fbfcc87dd53a1a4e",
        "c7c3ffcf90dd0308605b9a97f54128a1ce247fc2bb03befa24e6f1fed8b11aef",
    ]
    (tmp_path / "spec.json").write_bytes((STORED / "spec.json").read_bytes())
    Store.open(tmp_path, spec, resume=True)
    entries = read_config(tmp_path / "spec.json", flags_of(CompareConfig))
    assert entries.keys() == stored.keys()
    with pytest.raises(UserError, match="patience is 0 there and 3 here"):
        Store.open(tmp_path, compare_config(asdict(spec) | {"patience": 3}), resume=True)
