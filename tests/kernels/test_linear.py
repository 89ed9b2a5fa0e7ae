"""Linear maps and attention give the same by every route, and a route is taken for its speed only if it is exact."""

from __future__ import annotations

import json
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from addnorm.errors import UserError
from addnorm.kernels import linear_routes, native
from addnorm.kernels.linear import FEW, linear, linear_reference
from addnorm.kernels.wide_attention import attention_fits, wide_attention, wide_attention_reference
from addnorm.layers.linear import mapped
from addnorm.testing.small_models import noise_like

ALL = [
    pytest.param(dtype, route, id=f"{dtype}-{route}")
    for dtype, routes in linear_routes.ROUTES.items()
    for route in routes
]
# What one rounding of the result to the precision may change, of the largest entry.
ONE_ROUNDING = {torch.float32: 1e-5, torch.bfloat16: 2**-7}


def operands(dtype, tokens=(4, 33), inputs=65, outputs=31):
    shapes = ((*tokens, inputs), (outputs, inputs), (outputs,))
    return [noise_like(torch.empty(s, dtype=torch.float64), i).to(dtype).requires_grad_() for i, s in enumerate(shapes)]


def gradients(result, tensors):
    return [result.detach(), *torch.autograd.grad(result, tensors, noise_like(result))]


def assert_near(ours, theirs, tolerance):
    for one, two in zip(ours, theirs, strict=True):
        assert one.dtype == two.dtype and one.shape == two.shape
        error = (one.double() - two.double()).abs().max() / two.double().abs().max()
        assert error <= tolerance, f"{error:.1e}"


@pytest.mark.parametrize(("dtype", "route"), ALL)
@pytest.mark.parametrize("sizes", [((4, 33), 65, 31), ((FEW,), 1, 3), ((2, 50), 64, 1)], ids=str)
def test_every_route_is_exact_in_value_and_gradient(dtype, route, sizes):
    tensors = operands(dtype, *sizes)
    with linear_routes.using(route, dtype):
        ours = gradients(linear(*tensors), tensors)
    assert_near(ours, gradients(linear_reference(*tensors), tensors), ONE_ROUNDING[dtype])


@pytest.mark.parametrize(("dtype", "route"), ALL)
def test_a_map_without_bias_and_with_frozen_parts_has_the_gradients_that_are_asked_for(dtype, route):
    x, weight, _ = operands(dtype)
    with linear_routes.using(route, dtype):
        y = linear(x, weight.detach(), None)
        assert_near(gradients(y, [x]), gradients(linear_reference(x, weight.detach(), None), [x]), ONE_ROUNDING[dtype])
        y = linear(x.detach(), weight, None)
    assert_near(
        gradients(y, [weight]), gradients(linear_reference(x.detach(), weight, None), [weight]), ONE_ROUNDING[dtype]
    )


def test_the_routes_that_are_not_torchs_are_taken():
    wide, narrow = operands(torch.float32), operands(torch.bfloat16)
    with linear_routes.using("onednn", torch.float32), linear_routes.using("float32", torch.bfloat16):
        assert "OneDNN" in type(linear(*wide).grad_fn).__name__
        assert "Widened" in type(linear(*narrow).grad_fn).__name__
        few = [narrow[0][0, : FEW - 1], *narrow[1:]]
        assert "Widened" not in type(linear(*few).grad_fn).__name__


@pytest.mark.parametrize("route", linear_routes.ROUTES[torch.bfloat16])
def test_under_autocast_operands_are_rounded_as_torch_rounds_them(route):
    tensors = operands(torch.float32)
    with torch.autocast("cpu", torch.bfloat16), linear_routes.using(route, torch.bfloat16):
        ours, theirs = linear(*tensors), F.linear(*tensors)
        assert ours.dtype == torch.bfloat16
        assert_near(gradients(ours, tensors), gradients(theirs, tensors), ONE_ROUNDING[torch.bfloat16])


@pytest.mark.parametrize(("dtype", "route"), ALL)
def test_a_layer_can_be_checkpointed_compiled_and_copied(dtype, route):
    import copy

    torch._dynamo.reset()
    x, *_ = operands(dtype)

    class Mapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(65, 31)

        def forward(self, x):
            return mapped(self.inner, x)

    layer = Mapped().to(dtype)
    with linear_routes.using(route, dtype):
        plain = gradients(layer(x), [x, *layer.parameters()])
        again = gradients(checkpoint(layer, x, use_reentrant=False), [x, *layer.parameters()])
        compiled = torch.compile(copy.deepcopy(layer), fullgraph=True, backend="aot_eager")
        assert all(map(torch.equal, plain, again))
        assert_near([compiled(x).detach()], plain[:1], ONE_ROUNDING[dtype])


def test_measuring_reports_every_route_with_its_error_and_chooses_an_exact_one():
    for dtype, routes in linear_routes.ROUTES.items():
        found = linear_routes.measure(dtype)
        assert set(found["seconds"]) == set(found["errors"]) <= set(routes)
        assert found["errors"][found["route"]] <= linear_routes.CLOSE * found["errors"]["torch"]


def test_measuring_under_autocast_measures_the_same_products():
    seen = []

    def watched(x, weight):
        seen.append(torch.is_autocast_enabled("cpu"))
        return F.linear(x, weight)

    with pytest.MonkeyPatch.context() as patch, torch.autocast("cpu", torch.bfloat16):
        patch.setattr(linear_routes, "_runs", lambda _: {"torch": watched})
        linear_routes.measure(torch.bfloat16)
    assert seen and not any(seen)


@pytest.mark.slow
def test_a_route_that_rounds_its_operands_is_not_taken_however_fast(monkeypatch):
    def rounded(x, weight):
        return F.linear(x.bfloat16().float(), weight.bfloat16().float())

    # Torch's own made slow, and the other inexact: products of AMX units may be.
    def slow(x, weight):
        return [F.linear(x, weight) for _ in range(20)][0]

    monkeypatch.setattr(linear_routes, "_runs", lambda _: {"torch": slow, "onednn": rounded})
    assert linear_routes.measure(torch.float32)["route"] == "torch"
    monkeypatch.setattr(linear_routes, "_runs", lambda _: {"torch": slow, "onednn": F.linear})
    assert linear_routes.measure(torch.float32)["route"] == "onednn"


def test_what_was_measured_is_kept_for_the_next_process(tmp_path, monkeypatch):
    monkeypatch.setattr(linear_routes, "_STATE", linear_routes._State(chosen={}, file=tmp_path / "routes.json"))
    first = linear_routes.current(torch.bfloat16)
    (kept,) = json.loads((tmp_path / "routes.json").read_text()).values()
    assert kept["bfloat16"]["route"] == first
    linear_routes._STATE.chosen.clear()
    monkeypatch.setattr(linear_routes, "measure", None)  # would fail
    assert linear_routes.current(torch.bfloat16) == first


@pytest.mark.parametrize("text", ['{"half', "[1]", "{}", '{"x": 1}'])
def test_a_damaged_file_of_measurements_is_measured_again(text, tmp_path, monkeypatch):
    (tmp_path / "routes.json").write_text(text)
    monkeypatch.setattr(linear_routes, "_STATE", linear_routes._State(chosen={}, file=tmp_path / "routes.json"))
    assert linear_routes.current(torch.float32) in linear_routes.ROUTES[torch.float32]


def test_an_unknown_route_is_refused():
    with pytest.raises(UserError, match="onednn"):
        linear_routes.use("mkl", torch.float32)
    with pytest.raises(UserError, match="float32"):
        linear_routes.use("onednn", torch.bfloat16)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("cast", [False, True], ids=["bfloat16", "autocast"])
def test_wide_attention_equals_its_reference_in_value_and_gradient(causal, cast):
    shape = (2, 3, 33, 8)
    dtype = torch.float32 if cast else torch.bfloat16
    vectors = [noise_like(torch.empty(shape), i).to(dtype).requires_grad_() for i in range(3)]
    with torch.autocast("cpu", torch.bfloat16, enabled=cast), linear_routes.using("float32", torch.bfloat16):
        assert attention_fits(*(one.view_as(one) for one in vectors))
        ours = gradients(wide_attention(*vectors, causal=causal), vectors)
        theirs = gradients(wide_attention_reference(*vectors, causal=causal), vectors)
    # The output that backward reads is rounded to bfloat16 here, and is not there.
    assert_near(ours, theirs, 2**-6)


def test_float32_and_short_sequences_are_attended_to_by_torch():
    with linear_routes.using("float32", torch.bfloat16):
        make = partial(torch.empty, dtype=torch.bfloat16)
        assert not attention_fits(*(make(1, 1, FEW - 1, 8),) * 3)
        assert not attention_fits(*(torch.empty(1, 1, 64, 8),) * 3)
        assert attention_fits(*(make(1, 1, 64, 8),) * 3)
    with linear_routes.using("torch", torch.bfloat16):
        assert not attention_fits(*(make(1, 1, 64, 8),) * 3)


@pytest.mark.slow
def test_the_folder_of_kernels_may_be_chosen(tmp_path, monkeypatch):
    monkeypatch.setattr(native, "_STATE", native._State())
    native.use(True, tmp_path)
    assert native.library("add_norm") is not None
    assert any(path.name.startswith("add_norm-") for path in tmp_path.iterdir())


def test_without_a_compiler_torch_serves(tmp_path, monkeypatch):
    monkeypatch.setattr(native, "_STATE", native._State(folder=tmp_path))
    monkeypatch.setattr(native, "COMPILERS", ("no-such-compiler",))
    assert native.library("add_norm") is None
    assert "no C++ compiler" in native.status()["add_norm"]


def test_a_kernel_that_does_not_compile_is_told_and_torch_serves(tmp_path, monkeypatch):
    (tmp_path / "broken.cpp").write_text("this is not C++")
    monkeypatch.setattr(native, "SOURCES", tmp_path)
    monkeypatch.setattr(native, "_STATE", native._State(folder=tmp_path / "cache"))
    assert native.library("broken") is None
    assert "failed" in native.status()["broken"]


def test_without_a_home_folder_torch_serves_and_nothing_fails(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(native, "_STATE", native._State())
    monkeypatch.setattr(linear_routes, "_STATE", linear_routes._State(chosen={}))
    monkeypatch.setattr("pathlib.Path.home", homeless)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert native.library("add_norm") is None
    assert "home" in native.status()["add_norm"]
    assert linear_routes.current(torch.bfloat16) in linear_routes.ROUTES[torch.bfloat16]
