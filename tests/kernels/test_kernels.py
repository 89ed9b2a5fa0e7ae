"""Every fused operation equals its plain reference, in value and in gradient, wherever it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from addnorm.kernels import native
from addnorm.kernels.add_norm import add_norm, add_norm_reference
from addnorm.kernels.depth_attention import depth_attention, depth_attention_reference
from addnorm.kernels.mhc_read import Numbers, mhc_read, mhc_read_reference
from addnorm.kernels.norm_of_sum import NormOfSum
from addnorm.kernels.normed_projection import normed_projection, normed_projection_reference
from addnorm.kernels.rms_norm import rms_norm, rms_norm_reference
from addnorm.kernels.rotary import turned, turned_reference
from addnorm.kernels.sinkhorn import sinkhorn, sinkhorn_reference
from addnorm.kernels.sinkhorn_with_eps import sinkhorn_with_eps, sinkhorn_with_eps_reference
from addnorm.kernels.streams import mix_streams, mix_streams_reference
from addnorm.testing.small_models import leaves, noise_like
from agreement import TOLERANCE, assert_agree, outcome

NUMBERS = Numbers(iterations=7, eps=1e-6)


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A fused operation, its reference, and the shapes of its inputs in several sizes.

    `state` says how many of the inputs are states, which may be bfloat16; the others stay float32. `returns_state` says
    whether the first result has the state's precision, or is a coefficient. `falls_back` says whether the torch path is
    the reference itself, which is differentiable any number of times.
    """

    fused: Callable[..., Any]
    reference: Callable[..., Any]
    sizes: tuple[tuple[tuple[int, ...], ...], ...]
    state: int = 1
    returns_state: bool = True
    falls_back: bool = False


def spread(function: Callable[..., Any], **fixed: Any) -> Callable[..., Any]:
    """A function of a query and a tuple of sources, as one of several tensors."""
    return lambda query, *sources: function(query, sources, **fixed)


def last_first(function: Callable[..., Any]) -> Callable[..., Any]:
    """The state comes first here, the query last."""
    return lambda *tensors: function(tensors[-1], *tensors[:-1])


ANGLES = torch.linspace(-4, 4, 200, dtype=torch.float64).view(10, 20)


def _long(x: Tensor) -> torch.dtype:
    """In which angles come."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


LAYER, RMS = NormOfSum(eps=1e-5, centred=True), NormOfSum(eps=1e-5, centred=False, alpha=1.5)


def without_bias(function: Callable[..., Any]) -> Callable[..., Any]:
    """Of stream, update and weight."""
    return lambda stream, update, weight: function(stream, update, weight, None, RMS)


KERNELS = {
    "add_layer_norm": Kernel(
        fused=partial(add_norm, kind=LAYER),
        reference=partial(add_norm_reference, kind=LAYER),
        sizes=(
            ((2, 3, 8), (2, 3, 8), (8,), (8,)),
            ((1, 3), (1, 3), (3,), (3,)),
            ((7, 33), (7, 33), (33,), (33,)),
            ((300, 5), (300, 5), (5,), (5,)),
        ),
        state=2,
        falls_back=True,
    ),
    "add_rms_norm": Kernel(
        fused=without_bias(add_norm),
        reference=without_bias(add_norm_reference),
        sizes=(((2, 3, 8), (2, 3, 8), (8,)), ((1, 1), (1, 1), (1,)), ((7, 33), (7, 33), (33,))),
        state=2,
        falls_back=True,
    ),
    "rms_norm": Kernel(
        fused=partial(rms_norm, eps=1e-5),
        reference=partial(rms_norm_reference, eps=1e-5),
        sizes=(((2, 3, 8), (8,)), ((1,), (1,)), ((7, 5), (5,))),
    ),
    "rotary": Kernel(
        fused=lambda *given: turned(ANGLES[: given[0].shape[2], : given[0].shape[3] // 2].to(_long(given[0])), *given),
        reference=lambda *given: tuple(
            turned_reference(ANGLES[: x.shape[2], : x.shape[3] // 2].to(x.dtype), x) for x in given
        ),
        sizes=(((2, 3, 5, 8), (2, 1, 5, 8)), ((1, 1, 1, 2), (1, 1, 1, 2)), ((3, 2, 7, 34), (3, 2, 7, 34))),
        state=2,
        falls_back=True,
    ),
    "rotary, an angle a row": Kernel(
        fused=lambda x: turned(ANGLES.view(2, 5, 20)[..., : x.shape[3] // 2].to(_long(x)), x.transpose(1, 2))[0],
        reference=lambda x: turned_reference(
            ANGLES.view(2, 5, 20)[..., : x.shape[3] // 2].to(x.dtype), x.transpose(1, 2)
        ),
        sizes=(((2, 5, 3, 8),),),
        falls_back=True,
    ),
    "sinkhorn": Kernel(
        fused=partial(sinkhorn, iterations=20),
        reference=partial(sinkhorn_reference, iterations=20),
        sizes=(((4, 4, 9),), ((3, 3),), ((5, 5, 2, 3),), ((1, 1, 6),)),
        state=0,
    ),
    "sinkhorn_with_eps": Kernel(
        fused=partial(sinkhorn_with_eps, iterations=20, eps=1e-3),
        reference=partial(sinkhorn_with_eps_reference, iterations=20, eps=1e-3),
        sizes=(((4, 4, 9),), ((3, 3),), ((5, 5, 2, 3),), ((1, 1, 6),)),
        state=0,
    ),
    "normed_projection": Kernel(
        fused=partial(normed_projection, eps=1e-6),
        reference=partial(normed_projection_reference, eps=1e-6),
        sizes=(((5, 12), (7, 12)), ((1, 3), (1, 3))),
        returns_state=False,
    ),
    "mix_streams": Kernel(
        fused=mix_streams,
        reference=mix_streams_reference,
        sizes=(((2, 3, 4, 8), (2, 3, 5, 4)), ((3, 5), (2, 3)), ((7, 2, 1), (7, 1, 2))),
    ),
    "mhc_read": Kernel(
        fused=partial(mhc_read, numbers=NUMBERS),
        reference=partial(mhc_read_reference, numbers=NUMBERS),
        sizes=(
            ((2, 3, 4, 8), (24, 32), (24,), (24,)),
            ((3, 5), (15, 15), (15,), (15,)),
            ((7, 2, 1), (8, 2), (8,), (8,)),
        ),
    ),
    "depth_attention": Kernel(
        fused=last_first(spread(depth_attention, eps=1e-6)),
        reference=last_first(spread(depth_attention_reference, eps=1e-6)),
        sizes=(((2, 3, 8),) * 5 + ((8,),), ((4,), (4,), (4,)), ((5, 3), (5, 3), (3,))),
        state=5,
    ),
}
CASES = [
    pytest.param(kernel, size, id=f"{name}-{size[0]}") for name, kernel in KERNELS.items() for size in kernel.sizes
]
FIRST = [pytest.param(kernel, kernel.sizes[0], id=name) for name, kernel in KERNELS.items()]


def inputs(size: tuple[tuple[int, ...], ...], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    made = [noise_like(torch.empty(shape, dtype=dtype), seed) for seed, shape in enumerate(size)]
    return [tensor.requires_grad_() for tensor in made]


def named(tensors: list[Tensor]) -> dict[str, Tensor]:
    return {f"input {i}": tensor for i, tensor in enumerate(tensors)}


@pytest.fixture(params=["C++", "torch"], autouse=True)
def path(request):
    """Every test, with the C++ kernels and without."""
    with native.switched(request.param == "C++"):
        yield request.param


def test_every_kernel_in_cpp_compiles_here(path):
    told = native.status()
    assert told.keys() == {source.stem for source in native.SOURCES.glob("*.cpp")}
    for name, runs in told.items():
        assert runs == "C++" if path == "C++" else runs.startswith("torch"), f"{name}: {runs}"


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("kernel", "size"), CASES)
def test_it_equals_its_reference_in_value_and_gradient(kernel, size, dtype):
    wide = inputs(size)
    tensors = [tensor.detach().to(dtype).requires_grad_() for tensor in wide]
    fused = outcome(lambda: kernel.fused(*tensors), named(tensors))
    reference = outcome(lambda: kernel.reference(*wide), named(wide))
    for name, expected in reference.items():
        # Not `assert_agree`: a matrix of one entry, and softmax of one source, rightly have no gradient.
        error = (fused[name].double() - expected).abs().max() / expected.abs().max().clamp_min(1.0)
        assert error <= TOLERANCE[dtype], f"{name}: {error:.1e}"


@pytest.mark.parametrize(("kernel", "size"), CASES)
def test_its_gradient_is_the_numerical_one(kernel, size):
    assert torch.autograd.gradcheck(kernel.fused, inputs(size), fast_mode=True)


@pytest.mark.parametrize(("kernel", "size"), FIRST)
def test_it_takes_gradients_of_any_layout(kernel, size):
    tensors = inputs(size)
    results = leaves(kernel.fused(*tensors))
    grads = [noise_like(result) for result in results]
    # The same numbers with the dimensions in another order in memory.
    strided = [
        grad.permute(*reversed(range(grad.dim()))).contiguous().permute(*reversed(range(grad.dim()))) for grad in grads
    ]
    plain = torch.autograd.grad(results, tensors, grads, retain_graph=True)
    for one, two in zip(plain, torch.autograd.grad(results, tensors, strided), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)  # float64: only the order of sums may differ


@pytest.mark.parametrize(("kernel", "size"), FIRST)
def test_an_unused_output_sends_no_gradient(kernel, size):
    tensors = inputs(size)
    results = leaves(kernel.fused(*tensors))
    references = leaves(kernel.reference(*tensors))
    for result, reference in zip(results, references, strict=True):
        ours = torch.autograd.grad((result * noise_like(result)).sum(), tensors, retain_graph=True, allow_unused=True)
        theirs = torch.autograd.grad(
            (reference * noise_like(result)).sum(), tensors, retain_graph=True, allow_unused=True
        )
        for one, two in zip(ours, theirs, strict=True):
            if one is None:
                assert two is None
                continue
            torch.testing.assert_close(one, torch.zeros_like(one) if two is None else two, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "size"), FIRST)
def test_compiled_whole_it_gives_the_same_bits(kernel, size, path):
    torch._dynamo.reset()
    tensors = inputs(size, torch.float32)
    compiled = torch.compile(kernel.fused, fullgraph=True, backend="aot_eager")
    ours = outcome(lambda: kernel.fused(*tensors), named(tensors))
    theirs = outcome(lambda: compiled(*tensors), named(tensors))
    for name, expected in theirs.items():
        if name.startswith("output") and path == "torch":  # C++ adds up in another order
            assert torch.equal(ours[name], expected), name
    assert_agree(ours, theirs, TOLERANCE[torch.float32])


@pytest.mark.parametrize(("kernel", "size"), FIRST)
def test_checkpointing_gives_the_same_bits(kernel, size):
    tensors = inputs(size, torch.float32)
    plain = outcome(lambda: kernel.fused(*tensors), named(tensors))
    again = outcome(lambda: checkpoint(kernel.fused, *tensors, use_reentrant=False), named(tensors))
    for name, expected in plain.items():
        assert torch.equal(again[name], expected), name


@pytest.mark.parametrize(("kernel", "size"), FIRST)
def test_autocast_changes_nothing(kernel, size):
    tensors = inputs(size, torch.float32)
    plain = outcome(lambda: kernel.fused(*tensors), named(tensors))
    with torch.autocast("cpu", torch.bfloat16):
        cast = outcome(lambda: kernel.fused(*tensors), named(tensors))
    for name, expected in plain.items():
        assert torch.equal(cast[name], expected), name


@pytest.mark.parametrize(("kernel", "size"), [case for case in FIRST if case.values[0].state])
def test_a_bfloat16_state_is_only_rounded_at_the_end(kernel, size):
    tensors = inputs(size, torch.float32)
    narrow = [t.detach().bfloat16().requires_grad_() if i < kernel.state else t for i, t in enumerate(tensors)]
    exact = [t.detach().float().requires_grad_() for t in narrow]
    ours = outcome(lambda: kernel.fused(*narrow), named(narrow))
    theirs = outcome(lambda: kernel.fused(*exact), named(exact))
    assert leaves(kernel.fused(*narrow))[0].dtype == (torch.bfloat16 if kernel.returns_state else torch.float32)
    for name, expected in theirs.items():
        # 2^-8 is what one rounding to bfloat16 may change; the gradient that comes in is rounded too.
        torch.testing.assert_close(ours[name].float(), expected, rtol=2**-7, atol=2**-7 * float(expected.abs().max()))


@pytest.mark.parametrize(("kernel", "size"), FIRST)
def test_the_second_derivative_is_right(kernel, size):
    """Numerical against analytical derivatives of the backward, in float64."""
    assert torch.autograd.gradgradcheck(kernel.fused, inputs(size), fast_mode=True)


@pytest.mark.parametrize(("kernel", "size"), FIRST)
def test_without_gradients_it_keeps_nothing(kernel, size):
    tensors = inputs(size)
    with torch.no_grad():
        assert not any(result.requires_grad for result in leaves(kernel.fused(*tensors)))
