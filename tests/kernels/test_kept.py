"""What is compiled and measured once and kept: only what is whole, and only what holds for every process."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from addnorm import Transformer, schemes
from addnorm.errors import UserError
from addnorm.kernels import linear_routes, native
from addnorm.kernels.linear import linear

NAME = "tiny"
pytestmark = pytest.mark.skipif(native.library("rotary") is None, reason="no C++ compiler here")


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty folder, and a process that has loaded nothing."""
    monkeypatch.delenv("CXX", raising=False)
    (tmp_path / f"{NAME}.cpp").write_text('extern "C" int answer() { return 42; }')
    monkeypatch.setattr(native, "SOURCES", tmp_path)
    monkeypatch.setattr(native, "_STATE", native._State(folder=tmp_path / "cache"))
    return tmp_path / "cache"


@contextmanager
def onednn_off() -> Iterator[None]:
    """As `torch.backends.mkldnn.flags(enabled=False)`, which also warns of GPUs."""
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(True)


def again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a later process has the kernel."""
    monkeypatch.setattr(native, "_STATE", native._State(folder=cache))
    return native.library(NAME) is not None


def program(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)
    return folder / name


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "no sum", "other sum"])
def test_a_damaged_library_is_never_loaded(cache, monkeypatch, damage):
    assert native.library(NAME) is not None
    (kept,) = cache.glob("*.so")
    whole, digest = kept.read_bytes(), kept.with_suffix(".sha256")
    # In a new file: the old one is mapped into this process.
    new = {"flip": whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:], "cut": whole[:5000], "empty": b""}
    if damage in new:
        kept.unlink()
        kept.write_bytes(new[damage])
    elif damage == "no sum":
        digest.unlink()
    else:
        digest.write_text("0" * 64)
    seen = []
    load = native.ctypes.CDLL
    monkeypatch.setattr(native.ctypes, "CDLL", lambda path: (seen.append(Path(path).read_bytes()), load(path))[1])
    assert again(cache, monkeypatch)
    assert seen == [kept.read_bytes()] and len(seen[0]) == len(whole)  # compiled anew, and only that was loaded


def test_a_kept_library_is_used_where_no_compiler_is(cache, monkeypatch):
    assert native.library(NAME) is not None
    monkeypatch.setattr(native, "COMPILERS", ())
    assert again(cache, monkeypatch)
    shutil.rmtree(cache)
    assert not again(cache, monkeypatch)


def test_a_broken_compiler_does_not_hide_one_that_works(cache, monkeypatch, tmp_path):
    program(tmp_path / "bin", "c++", "echo no such instruction >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    assert native.library(NAME) is not None


def test_the_users_compiler_comes_first(cache, monkeypatch, tmp_path):
    real = shutil.which("c++") or shutil.which("g++")
    program(tmp_path / "bin", "mine", f'echo "$@" >> {tmp_path / "calls"}; shift; exec {real} "$@"')
    monkeypatch.setenv("CXX", f"{tmp_path / 'bin' / 'mine'} -march-of-mine")
    assert native.library(NAME) is not None
    assert (tmp_path / "calls").read_text().startswith("-march-of-mine -std=c++17")


def test_the_cache_is_where_the_desktop_says(monkeypatch, tmp_path):
    monkeypatch.setattr(native, "_STATE", native._State())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert native.folder() == tmp_path / "addnorm"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert native.folder() == Path.home() / ".cache" / "addnorm"


def test_a_kept_library_is_for_its_owner_alone(cache):
    assert native.library(NAME) is not None
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_route_is_measured_without_what_is_set_for_a_while(dtype, monkeypatch):
    seen = []

    def measured(dtype: torch.dtype) -> dict:
        seen.append(
            (
                torch.empty(0).device.type,
                torch._C._get_mkldnn_enabled(),
                torch.is_autocast_enabled("cpu"),
                torch.get_num_threads(),
                torch.get_float32_matmul_precision(),
            )
        )
        return {"route": "torch", "seconds": {}, "errors": {}}

    monkeypatch.setattr(linear_routes, "_measured", measured)
    threads = torch.get_num_threads()
    with torch.device("meta"), torch.autocast("cpu"), onednn_off():
        linear_routes.measure(dtype)
    assert seen == [("cpu", True, False, 1, "highest")] and torch.get_num_threads() == threads


def test_who_switches_onednn_off_gets_torchs_own_and_nothing_is_kept(monkeypatch, tmp_path):
    file = tmp_path / "routes.json"
    monkeypatch.setattr(linear_routes, "_STATE", linear_routes._State(chosen={}, file=file))
    with onednn_off():
        assert linear_routes.current(torch.bfloat16) == "torch"
    assert not file.exists() and not linear_routes._STATE.chosen


def test_what_the_environment_forbids_is_kept_apart(monkeypatch, tmp_path):
    file = tmp_path / "routes.json"
    for isa in (None, "AVX2"):
        monkeypatch.setattr(linear_routes, "_STATE", linear_routes._State(chosen={}, file=file))
        if isa:
            monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", isa)
        else:
            monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
        linear_routes.current(torch.float32)
    assert file.read_text().count('"route"') == 2


@pytest.mark.parametrize("scheme", ["pre-norm", "mhc", "attention-residuals", "post-norm(norm=rms)"])
def test_another_default_device_changes_nothing(scheme, monkeypatch):
    model = Transformer(schemes.parse(scheme), vocab_size=11, d_model=16, num_heads=2, num_layers=2)
    tokens = torch.arange(22).view(2, 11) % 11
    outcomes = []
    for device in ("cpu", "meta"):
        monkeypatch.setattr(linear_routes, "_STATE", linear_routes._State(chosen={}))
        model.zero_grad()
        with torch.device(device):
            loss = model(tokens).logsumexp(-1).mean()
            loss.backward()
        outcomes.append([loss.detach(), *(p.grad.clone() for p in model.parameters())])
    assert all(map(torch.equal, *outcomes))


def test_a_weight_without_numbers_is_refused():
    with pytest.raises(UserError, match=r"shape \(4, 8\) is on the meta device"):
        linear(torch.ones(3, 8), torch.empty(4, 8, device="meta"), None)


@pytest.mark.parametrize("left_out", ["q_proj.weight", "fc1.weight", "head.own.weight"])
def test_a_model_that_was_loaded_in_part_says_so(left_out):
    shape = {"vocab_size": 11, "d_model": 16, "num_heads": 2, "num_layers": 1, "tie_embeddings": False}
    source = Transformer(schemes.parse("pre-norm"), **shape)
    with torch.device("meta"):
        model = Transformer(schemes.parse("pre-norm"), **shape)
    weights = {path: one for path, one in source.state_dict().items() if not path.endswith(left_out)}
    model.load_state_dict(weights, strict=False, assign=True)
    with pytest.raises(UserError, match="meta device, without numbers"):
        model.eval()(torch.ones(2, 5, dtype=torch.long))
