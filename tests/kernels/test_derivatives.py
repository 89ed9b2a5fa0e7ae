"""Every fused operation has a right second derivative; one that is new and has none is named here."""

from __future__ import annotations

import importlib
import pkgutil

import pytest
import torch
from torch import Tensor

import addnorm
from addnorm.kernels import linear_routes
from addnorm.kernels.derivatives import is_traced
from addnorm.kernels.linear import linear
from addnorm.kernels.wide_attention import wide_attention, wide_attention_reference
from addnorm.layers.norm import RMSNorm
from addnorm.models.grey_levels import _Means
from addnorm.testing.small_models import noise_like

# Where the second derivative of each is held against numerical derivatives, or against torch's own.
TRIED = {
    "_AddNorm": "test_kernels",
    "_RMSNorm": "test_kernels",
    "_NormedProjection": "test_kernels",
    "_Sinkhorn": "test_kernels",
    "_SinkhornWithEps": "test_kernels",
    "_MixStreams": "test_kernels",
    "_MHCRead": "test_kernels",
    "_DepthAttention": "test_kernels",
    "_Turned": "test_kernels",
    "_Site": "test_mhc_native",
    "_Write": "test_mhc_native",
    "_Read": "test_depth_attention_native",
    "_Widened": "here",
    "_OneDNN": "here",
    "_WideAttention": "here",
    "_Means": "here",
    "_Whole": "test_whole",
}


def test_every_hand_written_backward_is_tried():
    for module in pkgutil.walk_packages(addnorm.__path__, "addnorm."):
        if ".gpu." not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    of_ours = [one for one in torch.autograd.Function.__subclasses__() if one.__module__.startswith("addnorm.")]
    # What a probe puts in the place of a sublayer draws its gradient too: there is no derivative to compare with.
    assert {one.__name__ for one in of_ours if not one.__module__.startswith("addnorm.probes.")} == TRIED.keys()


def second(function, *inputs: Tensor) -> list[Tensor]:
    """The gradient of a penalty on the gradient."""
    given = [one.detach().requires_grad_() for one in inputs]
    first = torch.autograd.grad(function(*given).float().square().sum(), given, create_graph=True)
    return list(torch.autograd.grad(sum(one.float().square().sum() for one in first), given))


def close(ours: list[Tensor], theirs: list[Tensor], relative: float) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert float((one.float() - other.float()).norm() / other.float().norm()) < relative


@pytest.mark.parametrize("dtype, route", [(torch.float32, "onednn"), (torch.bfloat16, "float32")])
def test_a_linear_map_has_one_by_every_route(dtype, route):
    given = [noise_like(torch.empty(shape, dtype=dtype), i) for i, shape in enumerate([(3, 20, 8), (6, 8), (6,)])]
    exact = second(torch.nn.functional.linear, *(one.double() for one in given))
    with linear_routes.using(route, dtype):
        # bfloat16: products, and what goes from one to the next, are rounded to 8 bits.
        close(second(linear, *given), exact, 1e-5 if dtype == torch.float32 else 2e-2)


@pytest.mark.parametrize("causal", [False, True])
def test_wide_attention_has_one(causal):
    given = [noise_like(torch.empty((2, 3, 20, 8), dtype=torch.bfloat16), i) for i in range(3)]

    def by_hand(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        scores = query @ key.mT / 8**0.5
        if causal:
            scores = scores.masked_fill(torch.ones(20, 20, dtype=torch.bool).triu(1), -torch.inf)
        return scores.softmax(-1) @ value

    exact = second(by_hand, *(one.double() for one in given))
    close(second(lambda *vectors: wide_attention(*vectors, causal=causal), *given), exact, 2e-2)
    first = wide_attention(*given, causal=causal)
    assert torch.equal(first, wide_attention_reference(*given, causal=causal))


def test_grey_levels_have_one():
    shapes = [(5, 3), (5, 1), (256, 3), (256,)]
    features, seen, scores, bias = (noise_like(torch.empty(s, dtype=torch.float64), i) for i, s in enumerate(shapes))
    weight = torch.full((5, 1), 2.0, dtype=torch.float64)
    given = [(0.3 * one).requires_grad_() for one in (features, seen, scores, bias)]
    assert torch.autograd.gradgradcheck(lambda f, s, w, b: _Means.apply(f, s, weight, w, b), given, fast_mode=True)


def test_a_norm_between_functions_of_one_input_has_its_own_share_alone():
    """The stream and the update are both made of `x`: each is counted once."""
    x = noise_like(torch.empty((4, 6), dtype=torch.float64)).requires_grad_()
    from addnorm.kernels.add_norm import add_norm
    from addnorm.kernels.norm_of_sum import NormOfSum

    weight = torch.linspace(0.5, 2, 6, dtype=torch.float64).requires_grad_()

    def norm(x: Tensor, weight: Tensor) -> Tensor:
        return add_norm(x.sin(), x.sin().exp(), weight, None, NormOfSum(eps=1e-5, centred=True))[1]

    assert torch.autograd.gradgradcheck(norm, (x, weight))


def test_a_stream_in_another_order_of_memory_has_one():
    x = noise_like(torch.empty((6, 4), dtype=torch.float64)).requires_grad_()
    layer = RMSNorm(6).double()
    assert torch.autograd.gradgradcheck(lambda x: layer(x.T), (x,))


def test_what_follows_torch_by_other_means_takes_the_formula():
    assert not is_traced()
    seen = []
    torch.func.vmap(lambda x: (seen.append(is_traced()), x)[1])(torch.ones(2))
    with torch.autograd.forward_ad.dual_level():
        seen.append(is_traced())
    assert seen == [True, True] and not is_traced()
