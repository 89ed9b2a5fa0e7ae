"""A run does not depend on its trackers: one that fails is left out, with one warning, and no bit changes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from addnorm.config import RunConfig
from addnorm.errors import UserError
from addnorm.tracking import tracking
from addnorm.tracking.tracking import TrackerWarning, Tracking
from addnorm.training.run import train
from addnorm.training.run_folder import RunFolder
from command_line import here


class Mirror:
    """A tracker that keeps what it is given; `fails`: at which row it breaks; `closes`: whether it can end."""

    fails, closes = -1, True
    made: list[Mirror] = []

    def __init__(self, run: Path, metrics: Path, about: Mapping[str, Any]) -> None:
        self.about, self.there = about, metrics.read_text().count("\n") if metrics.exists() else 0
        self.rows: list[Mapping[str, Any]] = []
        self.made.append(self)

    def take(self, row: Mapping[str, Any]) -> None:
        if len(self.rows) == self.fails:
            raise OSError("the disk is full")
        self.rows.append(row)

    def close(self) -> None:
        if not self.closes:
            raise RuntimeError("no end")


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> type[Mirror]:
    """Stands where trackio stands, whose package is then found."""
    fresh = type("Fresh", (Mirror,), {"made": []})
    monkeypatch.setitem(tracking.KINDS, "trackio", fresh)
    monkeypatch.setattr(tracking, "check_installed", lambda names: None)
    monkeypatch.setattr("addnorm.training.run.check_installed", lambda names: None)
    return fresh


def _told(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run but for the time it took."""
    return [
        {key: value for key, value in row.items() if key not in ("wall_s", "cpu_s")} for row in RunFolder(folder).rows()
    ]


def test_a_tracker_sees_every_row_and_changes_none(tiny: Callable[..., RunConfig], tmp_path: Path, mirror: Any) -> None:
    train(tiny(), tmp_path / "alone")
    train(tiny(track=("trackio",)), tmp_path / "watched")
    (seen,) = mirror.made
    assert [row["event"] for row in seen.rows] == [row["event"] for row in RunFolder(tmp_path / "watched").rows()]
    assert seen.about["scheme"] == "pre-norm"
    assert _told(tmp_path / "watched") == _told(tmp_path / "alone")
    weights = [next((tmp_path / name).glob("checkpoints/step-*/model.safetensors")) for name in ("alone", "watched")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_tracker_that_fails_is_left_out_with_one_warning(
    tiny: Callable[..., RunConfig], tmp_path: Path, mirror: Any
) -> None:
    mirror.fails = 5
    with pytest.warns(TrackerWarning, match="trackio is lost .the disk is full.; .* has every row") as told:
        result = train(tiny(track=("trackio",)), tmp_path / "run")
    assert len([each for each in told if each.category is TrackerWarning]) == 1
    assert result["status"] == "finished"
    assert len(mirror.made[0].rows) == 5 < len(RunFolder(tmp_path / "run").rows())


def test_a_tracker_that_cannot_begin_or_end_is_one_warning_too(tmp_path: Path, mirror: Any) -> None:
    mirror.closes = False
    with pytest.warns(TrackerWarning, match="no end"), Tracking(["trackio"], tmp_path, tmp_path / "m", {}) as trackers:
        trackers.take({"event": "train"})
    mirror.__init__ = lambda *_: [][0]
    with pytest.warns(TrackerWarning, match="index out of range"):  # noqa: SIM117
        with Tracking(["trackio"], tmp_path, tmp_path / "m", {}) as trackers:
            trackers.take({"event": "train"})


def test_a_run_that_has_ended_hands_its_rows_to_a_tracker_that_comes_later(
    tiny: Callable[..., RunConfig], tmp_path: Path, mirror: Any
) -> None:
    train(tiny(), tmp_path / "run")
    train(tiny(track=("trackio",)), tmp_path / "run", resume=True)
    assert mirror.made[0].there == len(RunFolder(tmp_path / "run").rows())


@pytest.mark.parametrize("command", ["train", "compare"])
def test_a_tracker_that_is_not_installed_is_told_before_anything_is_written(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = tracking.importlib.util.find_spec
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: None if name == "trackio" else found(name))
    seen = here(command, "--track", "trackio", "--out", str(tmp_path / "run"))
    assert seen.code == 2 and seen.is_one_line_of_error()
    assert "needs the package trackio; run: pip install 'addnorm[track]'" in seen.err
    assert not (tmp_path / "run").exists()


def test_the_flag_may_come_twice_and_can_be_taken_back() -> None:
    said = here("train", "--track", "trackio", "--track", "tensorboard", "--track", "trackio", "--print-config")
    assert 'track = ["trackio", "tensorboard"]' in said.out
    assert "# track = ..." in here("compare", "--track", "none", "--print-config").out
    assert "--layers came twice" in here("compare", "--layers", "2", "--layers", "3").err
    assert "--track 'wandb' is unknown. Allowed: tensorboard, trackio" in here("train", "--track", "wandb").err


def test_a_run_can_be_resumed_with_another_tracker(tiny: Callable[..., RunConfig], tmp_path: Path, mirror: Any) -> None:
    folder = tmp_path / "run"
    with pytest.raises(UserError):  # what a checkpoint is written with
        train(tiny(saves=2), folder, on_progress=_stop_at(12))
    with warnings.catch_warnings():
        warnings.simplefilter("error", TrackerWarning)
        train(tiny(saves=2, track=("trackio",)), folder, resume=True)
    (seen,) = mirror.made
    assert seen.there + len(seen.rows) == len(RunFolder(folder).rows())
    assert RunFolder(folder).config().track is None


def _stop_at(step: int) -> Callable[[Any], None]:
    def stop(progress: Any) -> None:
        if progress.step == step:
            raise UserError("enough")

    return stop
