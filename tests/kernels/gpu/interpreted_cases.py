"""The Triton kernels equal the plain references in Triton's interpreter, which runs them on the CPU.

Run by `test_triton.py` in a process of its own: whether Triton interprets is decided once, when it is imported.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from addnorm import Transformer
from addnorm.kernels import mhc_site, native
from addnorm.kernels.add_norm import add_norm, add_norm_reference, fits
from addnorm.kernels.gpu import add_norm_launch as gpu_add_norm
from addnorm.kernels.gpu import choice
from addnorm.kernels.gpu import mhc_launch as gpu_mhc
from addnorm.kernels.mhc_read import Numbers
from addnorm.kernels.mhc_weights import Form, Weights, read_reference
from addnorm.kernels.norm_of_sum import NormOfSum
from addnorm.schemes.mhc import MHC
from addnorm.testing.small_models import noise_like, tokens
from agreement import TOLERANCE, assert_agree, outcome, scatter_

KINDS = {
    "layer": NormOfSum(eps=1e-5, centred=True),
    "rms": NormOfSum(eps=1e-5, centred=False, alpha=1.5),
    "scaled layer": NormOfSum(eps=1e-5, centred=True, alpha=0.7),
}
SIZES = [((1,), 1), ((7,), 3), ((2, 3), 33), ((130,), 512)]
# Eight bits: half a unit in the last place is 2^-9 of a number, and a sum of a few rounded numbers has a few of those.
BFLOAT16 = 2e-2
FORM = Form(numbers=Numbers(iterations=4, eps=1e-6))


@pytest.fixture(autouse=True)
def launches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The interpreter's tensors lie on the CPU; what is launched is noted."""
    noted: list[str] = []
    monkeypatch.setattr(choice, "DEVICE", "cpu")

    def noting(module: Any, name: str) -> None:
        function = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given: (noted.append(name), function(*given))[1])

    for module, name in ((gpu_add_norm, "forward"), (gpu_add_norm, "backward"), (gpu_mhc, "run")):
        noting(module, name)
    return noted


def add_norm_inputs(size: tuple[tuple[int, ...], int]) -> dict[str, Tensor]:
    lead, d = size
    shapes = {"stream": (*lead, d), "update": (*lead, d), "weight": (d,), "bias": (d,)}
    return {name: noise_like(torch.empty(shape), seed) + 0.3 for seed, (name, shape) in enumerate(shapes.items())}


def learning(given: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone().requires_grad_() for name, tensor in given.items()}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_add_and_norm_equals_its_reference(size: Any, kind: NormOfSum, launches: list[str]) -> None:
    given = learning(add_norm_inputs(size))
    ours = outcome(lambda: add_norm(*given.values(), kind), given)
    assert launches == ["forward", "backward"]
    assert_close(ours, outcome(lambda: add_norm_reference(*given.values(), kind), given), TOLERANCE[torch.float32])


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("narrow", [("stream", "update"), ("update",)], ids=str)
def test_bfloat16_keeps_its_precision(narrow: tuple[str, ...], kind: NormOfSum, launches: list[str]) -> None:
    exact = add_norm_inputs(((5,), 33))
    exact |= {name: exact[name].bfloat16() for name in narrow}
    given = learning(exact)
    ours = outcome(lambda: add_norm(*given.values(), kind), given)
    assert launches == ["forward", "backward"]
    assert ours["output 1"].dtype == exact["stream"].dtype and ours["update"].dtype == torch.bfloat16
    wide = learning({name: tensor.float() for name, tensor in exact.items()})
    assert_close(ours, outcome(lambda: add_norm_reference(*wide.values(), kind), wide), BFLOAT16)


def test_the_norm_alone_and_a_norm_without_a_bias(launches: list[str]) -> None:
    given = learning(add_norm_inputs(((7,), 33)))
    for kind in KINDS.values():
        named = {name: given[name] for name in ("stream", "weight")}

        def ours(function: Any, kind: NormOfSum = kind) -> Tensor:
            return function(given["stream"], None, given["weight"], None, kind)[1]

        assert_close(outcome(lambda: ours(add_norm), named), outcome(lambda: ours(add_norm_reference), named), 1e-5)
    assert launches == ["forward", "backward"] * len(KINDS)


def test_what_the_kernels_do_not_know_goes_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "library", lambda name: None)
    stream, gain = torch.randn(2, 8), torch.ones(8)
    assert fits(stream, stream, gain, gain) and fits(stream, None, gain, None)
    with native.switched(False):
        assert not fits(stream, None, gain, None)
    assert not fits(stream.double(), None, gain, None)
    assert not fits(stream.half(), None, gain, None)
    assert not fits(stream, stream.half(), gain, None)
    assert not fits(stream, stream[:1], gain, None)
    assert not fits(stream, None, gain[:7], None)
    assert not fits(stream, None, gain, gain.double())
    assert not fits(torch.empty(0, 8), None, gain, None)
    wide = torch.empty(1, choice.WIDEST + 1)
    assert not fits(wide, None, wide[0], None)
    for n, known in ((choice.MOST_STREAMS, True), (choice.MOST_STREAMS + 1, False)):
        given = site_inputs(((2,), n, 3))
        assert mhc_site.fits(given["streams"], weights(given, "first")) is known


def site_inputs(size: tuple[tuple[int, ...], int, int]) -> dict[str, Tensor]:
    lead, n, d = size
    rows = n * n + 2 * n
    shapes = {"streams": (*lead, n, d), "first update": (*lead, d), "second update": (*lead, d)}
    for site in ("first", "second"):
        shapes |= {f"{site} phi": (rows, n * d), f"{site} alpha": (3,), f"{site} bias": (rows,)}
    made = {name: noise_like(torch.empty(shape), seed) for seed, (name, shape) in enumerate(shapes.items())}
    return {name: one * d**-0.5 if name.endswith("phi") else one for name, one in made.items()}


def weights(given: dict[str, Tensor], site: str) -> Weights:
    learned = {name: given[f"{site} {name}"] for name in ("phi", "alpha", "bias")}
    return Weights(**learned, gain=None, shift=None, form=FORM)


def fused(given: dict[str, Tensor]) -> tuple[Tensor, ...]:
    assert mhc_site.fits(given["streams"], weights(given, "first"))
    one, held = mhc_site.read(given["streams"], weights(given, "first"))
    two, held = mhc_site.write_and_read(held, given["first update"], weights(given, "second"))
    return one, two, mhc_site.write(held, given["second update"])


def reference(given: dict[str, Tensor]) -> tuple[Tensor, ...]:
    one, mixed, post = read_reference(given["streams"], weights(given, "first"))
    state = mixed + post.unsqueeze(-1) * given["first update"].unsqueeze(-2)
    two, mixed, post = read_reference(state, weights(given, "second"))
    return one, two, mixed + post.unsqueeze(-1) * given["second update"].unsqueeze(-2)


@pytest.mark.parametrize("size", [((7,), 4, 33), ((1,), 2, 1), ((2, 3), 3, 3), ((17,), 1, 40)], ids=str)
def test_the_sites_of_mhc_equal_their_reference(size: Any, launches: list[str]) -> None:
    given = learning(site_inputs(size))
    ours = outcome(lambda: fused(given), given)
    assert launches == ["run"] * 6
    theirs = outcome(lambda: reference(given), given)
    assert_close(ours, theirs, TOLERANCE[torch.float32])


def test_the_sites_keep_the_precision_of_bfloat16() -> None:
    exact = site_inputs(((5,), 4, 33))
    exact |= {name: exact[name].bfloat16() for name in ("streams", "first update", "second update")}
    given = learning(exact)
    wide = learning({name: tensor.float() for name, tensor in exact.items()})
    ours, theirs = outcome(lambda: fused(given), given), outcome(lambda: reference(wide), wide)
    assert ours["output 2"].dtype == ours["streams"].dtype == torch.bfloat16
    assert_close(ours, theirs, BFLOAT16)


def test_a_model_with_mhc_trains_on_the_kernels(launches: list[str]) -> None:
    model = Transformer(vocab_size=11, d_model=16, num_layers=1, num_heads=2, scheme=MHC(projection_std=0.3))
    scatter_(model, 0.1)
    ours = outcome(lambda: model(tokens(1, 5)), dict(model.named_parameters()))
    assert "run" in launches and "forward" in launches
    with native.switched(False):
        theirs = outcome(lambda: model(tokens(1, 5)), dict(model.named_parameters()))
    assert_close(ours, theirs, TOLERANCE[torch.float32])


def assert_close(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float) -> None:
    """As `assert_agree`, for gradients that are exactly zero too: of one stream's mixing, of a width of 1."""
    moving = {name: tensor for name, tensor in theirs.items() if tensor.abs().max() > 0}
    assert len(moving) > len(theirs) // 2
    assert_agree({name: ours[name].to(moving[name].dtype) for name in moving}, moving, tolerance)
    for name in theirs.keys() - moving.keys():
        assert ours[name].abs().max() <= tolerance, name
