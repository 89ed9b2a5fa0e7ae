from __future__ import annotations

import json
import os
import resource
from pathlib import Path

import pytest
import torch

from addnorm.errors import UserError
from addnorm.files import sha256
from addnorm.training.checkpoint import MANIFEST, OPTIMIZER, STATE, WEIGHTS, Checkpoint, Checkpoints

FILES = (WEIGHTS, OPTIMIZER, STATE)


def checkpoint(step: int, size: int = 8) -> Checkpoint:
    return Checkpoint(
        weights={"w": torch.full((size,), float(step)), "count": torch.tensor(step)},
        optimizer={"exp_avg/w": torch.arange(size, dtype=torch.float32)},
        state={"step": step, "ties": {}},
    )


@pytest.fixture
def kept(tmp_path: Path) -> Checkpoints:
    """Three checkpoints, the first of them the best."""
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for step in (10, 20, 30):
        checkpoints.save(checkpoint(step), best=step == 10)
    return checkpoints


def step_loaded(checkpoints: Checkpoints, prefer: str = "last") -> tuple[int, dict[str, str]]:
    found = checkpoints.load(prefer)
    assert found is not None
    assert found[0].weights["count"] == found[0].state["step"]
    return found[0].state["step"], found[1]


def test_what_is_saved_comes_back_bit_for_bit(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    saved = checkpoint(7)
    checkpoints.save(saved, best=True)
    found = checkpoints.load()
    assert found is not None
    for name, tensor in saved.weights.items():
        assert torch.equal(found[0].weights[name], tensor)
    assert torch.equal(found[0].optimizer["exp_avg/w"], saved.optimizer["exp_avg/w"])
    assert found[0].state == saved.state


def test_no_checkpoint_is_none(tmp_path):
    assert Checkpoints(tmp_path / "none").load() is None


def test_the_best_the_last_and_the_one_before_are_kept(kept):
    kept.save(checkpoint(40), best=False)
    assert kept.names() == ["step-00000010", "step-00000030", "step-00000040"]
    assert step_loaded(kept, "best") == (10, {})
    assert step_loaded(kept, "last") == (40, {})


def test_a_new_best_lets_the_old_one_go(kept):
    kept.save(checkpoint(40), best=True)
    kept.save(checkpoint(50), best=False)
    assert kept.names() == ["step-00000040", "step-00000050"]


@pytest.mark.parametrize("file", [*FILES, MANIFEST])
@pytest.mark.parametrize("damage", ["truncated", "bit-flipped", "missing", "empty"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(kept, file, damage):
    path = kept.folder / "step-00000030" / file
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "bit-flipped":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"")
    step, faults = step_loaded(kept)
    assert step == 20
    assert list(faults) == ["step-00000030"]
    if file != MANIFEST or damage == "missing":  # a wrong digit in the manifest accuses the file of that digit
        assert file in faults["step-00000030"]


def test_every_single_flipped_bit_is_found(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(checkpoint(1, size=2), best=True)
    for file in FILES:
        path = tmp_path / "step-00000001" / file
        content = path.read_bytes()
        for place in range(0, len(content), 7):
            path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
            assert checkpoints.fault("step-00000001") is not None
        path.write_bytes(content)
    assert checkpoints.fault("step-00000001") is None


def test_when_all_are_damaged_the_error_names_each(kept):
    for name in kept.names():
        (kept.folder / name / STATE).write_text("{}")
    with pytest.raises(UserError, match=r"step-00000030.*step-00000020.*step-00000010.*start the run afresh"):
        kept.load()


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"", b"step-99999999", b"x" * 10**6, None])
@pytest.mark.parametrize("pointer", ["last", "best"])
def test_a_pointer_that_is_lost_or_nonsense_is_told(kept, pointer, content):
    (kept.folder / pointer).unlink() if content is None else (kept.folder / pointer).write_bytes(content)
    assert step_loaded(kept, pointer) == (30, {pointer: "it names no checkpoint"})


@pytest.mark.parametrize("content", [b"step-00000030\n", b"nonsense", None])
def test_the_best_is_found_without_its_pointer(tmp_path, content):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for step, loss, best in ((10, 3.0, True), (20, 2.0, True), (30, 2.5, False)):
        counters = {"step": step, "validation_step": step, "validation_loss": loss, "best_loss": min(loss, 3.0)}
        counters["best_loss"] = 2.0 if step > 10 else 3.0
        saved = checkpoint(step)
        saved.state["counters"] = counters
        checkpoints.save(saved, best=best)
    assert step_loaded(checkpoints, "best") == (20, {})
    path = checkpoints.folder / "best"
    path.unlink() if content is None else path.write_bytes(content)
    step, faults = step_loaded(checkpoints, "best")
    assert step == 20 and list(faults) == ["best"]
    checkpoints.mend_pointers()
    assert step_loaded(checkpoints, "best") == (20, {})


def test_a_run_without_an_evaluation_has_no_best_and_nothing_is_told(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    saved = checkpoint(5)
    saved.state["counters"] = {"step": 5, "validation_step": -1, "validation_loss": "nan", "best_loss": "inf"}
    checkpoints.save(saved, best=False)
    assert step_loaded(checkpoints, "best") == (5, {})


def test_a_file_that_is_no_checkpoint_under_a_manifest_that_fits_gives_way(kept):
    folder = kept.folder / "step-00000030"
    for content in (b"", b"\xff" * 8, (2**40).to_bytes(8, "little") + b"{", (2).to_bytes(8, "little") + b"[]"):
        (folder / WEIGHTS).write_bytes(content)
        manifest = json.loads((folder / MANIFEST).read_text())
        (folder / MANIFEST).write_text(json.dumps(manifest | {WEIGHTS: sha256(folder / WEIGHTS)}))
        step, faults = step_loaded(kept)
        assert step == 20 and "no checkpoint" in faults["step-00000030"]


def test_a_step_is_written_again_over_its_damaged_checkpoint(kept):
    (kept.folder / "step-00000030" / WEIGHTS).write_bytes(b"")
    kept.save(checkpoint(30), best=False)
    assert step_loaded(kept) == (30, {})


@pytest.fixture
def a_small_disk():
    """Files may not grow beyond 20 kB: the system refuses the write, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_a_clear_error_and_leaves_the_old_checkpoints_whole(kept, a_small_disk):
    with pytest.raises(UserError, match=r"step-00000040 cannot be written.*step-00000030 is intact.*make room"):
        kept.save(checkpoint(40, size=20_000), best=True)
    assert step_loaded(kept) == (30, {})
    assert step_loaded(kept, "best") == (10, {})
    assert not [name for name in os.listdir(kept.folder) if name.startswith(".")]


def test_what_a_crash_left_half_written_is_neither_read_nor_kept(kept):
    part = kept.folder / ".step-00000040.x.part"
    part.mkdir()
    (part / WEIGHTS).write_bytes(b"half")
    assert step_loaded(kept) == (30, {})
    kept.sweep()
    assert not part.exists()
    assert len(kept.names()) == 3


def test_nothing_is_pickled(kept):
    for path in kept.folder.rglob("*"):
        if path.suffix == ".safetensors":
            size = int.from_bytes(path.read_bytes()[:8], "little")
            json.loads(path.read_bytes()[8 : 8 + size])  # the header: JSON and numbers, no code
        elif path.suffix == ".json":
            json.loads(path.read_text())
        else:
            assert path.is_dir() or path.name in ("last", "best")
