"""Finished runs side by side, without training."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from addnorm.config import RunConfig
from addnorm.errors import UserError
from addnorm.studies.of_runs import compare_runs
from command_line import here
from studies.run_folders import write_run

SHAPE = RunConfig(d_model=16, num_heads=2, num_layers=2, tokens=1000)


def _run(folder: Path, scheme: str, seed: int, loss: float, tokens: int = 1000, **changes: object) -> Path:
    config = replace(SHAPE, scheme=scheme, seed=seed, **changes)
    path = folder / f"{scheme}-{seed}-{'-'.join(map(str, changes.values()))}"
    write_run(path, asdict(config), losses=[5.5, loss + 0.4, loss], tokens=tokens)
    return path


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    losses = {"pre-norm": (2.6, 2.7, 2.65), "mhc": (2.5, 2.61, 2.545)}
    return [_run(tmp_path, name, seed, loss) for name, own in losses.items() for seed, loss in enumerate(own)]


def test_differences_are_those_of_shared_seeds(folders: list[Path]) -> None:
    results = compare_runs(folders)
    arms = {arm["scheme"]: arm for arm in results["arms"]}
    assert results["baseline"] == "pre-norm" and arms["pre-norm"]["verdict"] == "baseline"
    assert arms["mhc"]["difference"]["mean"] == pytest.approx(-(0.1 + 0.09 + 0.105) / 3)
    assert arms["mhc"]["difference"]["n"] == 3 and arms["mhc"]["verdict"] == "better"
    assert "3 of 3 seeds are in all arms" in results["notes"][0]


def test_a_seed_that_only_one_arm_has_is_in_no_difference(folders: list[Path], tmp_path: Path) -> None:
    results = compare_runs([*folders, _run(tmp_path, "mhc", 7, 9.0)])
    arm = next(arm for arm in results["arms"] if arm["scheme"] == "mhc")
    assert arm["seeds"] == [0, 1, 2, 7] and arm["difference"]["n"] == 3
    assert "3 of 4 seeds are in all arms" in results["notes"][0]


def test_what_differs_besides_the_scheme_is_said(folders: list[Path], tmp_path: Path) -> None:
    results = compare_runs([*folders, _run(tmp_path, "post-norm", 0, 2.4, d_ff=99, clip_norm=2.0)])
    assert any("clip_norm is 1.0, 2.0; d_ff is None, 99" in note for note in results["notes"])


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"context": 32}, "context is 64 and 32"),
        ({"steps": 7}, "1,000 and 2,000 tokens"),
        ({"data": "x"}, "data is"),
    ],
)
def test_runs_of_different_things_are_not_compared(
    folders: list[Path], tmp_path: Path, changes: dict[str, object], word: str
) -> None:
    other = _run(tmp_path, "post-norm", 0, 2.4, tokens=2000 if "steps" in changes else 1000, **changes)  # type: ignore
    with pytest.raises(UserError, match=word):
        compare_runs([*folders, other])


def test_the_baseline_must_be_at_every_depth(folders: list[Path], tmp_path: Path) -> None:
    deep = _run(tmp_path, "mhc", 0, 2.4, num_layers=6)
    with pytest.raises(UserError, match=r"no run of pre-norm at 6 layers"):
        compare_runs([*folders, deep])
    assert compare_runs([*folders, deep], baseline="mhc")["baseline"] == "mhc"


def test_the_command_writes_a_report_and_trains_nothing(folders: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "side-by-side"
    seen = here("compare", "--runs", *map(str, folders), "--out", str(out))
    assert seen.code == 0, seen.err
    assert "better" in seen.out and seen.out.rstrip().endswith(f"open {out}/report.html")
    assert json.loads((out / "results.json").read_text())["title"] == "6 runs, side by side"
    assert not (out / "runs").exists()
    for words in (
        ("--runs", str(folders[0])),
        ("--runs", str(folders[0]), str(folders[0])),
        ("--runs", str(folders[0]), str(tmp_path)),
        ("--runs", str(folders[0]), str(folders[1]), "--resume"),
    ):
        seen = here("compare", *words, "--out", str(tmp_path / "more"))
        assert seen.code == 2 and seen.is_one_line_of_error(), seen.err
        assert not (tmp_path / "more").exists()
