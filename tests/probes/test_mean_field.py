"""What theory says of a stack, beside what the stack does and what is known in closed form."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import addnorm
from addnorm.probes.mean_field import Prediction, moments, predict
from addnorm.probes.signal import SignalFlow


def kernel(cosine: float, size: float) -> Tensor:
    """Of two tokens."""
    return size * torch.tensor([[1.0, cosine], [cosine, 1.0]], dtype=torch.float64)


@pytest.mark.parametrize("cosine", [0.0, 0.5, 0.9, 1.0])
def test_the_moments_of_relu_are_those_of_the_arc_cosine_kernel(cosine: float) -> None:
    """Cho and Saul 2009: `(sin t + (pi - t) cos t) / 2 pi` for two tokens at an angle t."""
    angle = math.acos(cosine)
    expected = 2 * (math.sin(angle) + (math.pi - angle) * cosine) / (2 * math.pi)
    # 24 Hermite polynomials leave 1e-3 of a kink.
    assert float(moments(torch.relu, kernel(cosine, 2.0))[0, 1]) == pytest.approx(expected, abs=2e-3)


def test_the_moments_of_gelu_are_those_of_samples() -> None:
    k = kernel(0.5, 2.0)
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(10**6, 2, generator=generator, dtype=torch.float64) @ torch.linalg.cholesky(k).mT
    sampled = F.gelu(u).mT @ F.gelu(u) / len(u)
    assert torch.allclose(moments(F.gelu, k), sampled, rtol=5e-3)  # a million samples


def loss(model: nn.Module, ids: Tensor) -> Tensor:
    """Of the next token."""
    return F.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def both(scheme: str, num_layers: int = 6, **shape: Any) -> tuple[Prediction | None, dict[str, list[float]]]:
    """The prediction, and what a fresh model does: the means over three seeds."""
    shape = {"vocab_size": 64, "d_model": 128, "num_heads": 4, "num_layers": num_layers, "d_ff": 256} | shape
    ids = torch.randint(64, (2, 32), generator=torch.Generator().manual_seed(0))
    flows = []
    for seed in range(3):
        model = addnorm.Transformer(addnorm.schemes.parse(scheme), seed=seed, **shape)
        with SignalFlow(model.stack) as flow:
            loss(model, ids).backward()
        flows.append(flow.forward_and_backward())
    means = {name: torch.tensor([flow[name] for flow in flows]).mean(0).tolist() for name in flows[0]}
    return predict(addnorm.Transformer(addnorm.schemes.parse(scheme), **shape), ids, loss), means


@pytest.mark.parametrize("scheme", ["pre-norm", "post-norm(norm=rms)", "mhc", "attention-residuals", "layer-scale"])
def test_sizes_and_gradients_are_those_of_a_fresh_model(scheme: str) -> None:
    predicted, measured = both(scheme)
    assert predicted is not None
    # After the first attention, which is not quite uniform; the rest is 1 / sqrt(width) and 12 sublayers.
    for name in ("state_rms", "state_grad_norm"):
        for theory, seen in zip(getattr(predicted, name)[2:], measured[name][2:], strict=True):
            assert theory == pytest.approx(seen, rel=0.2), name


def test_swiglu_has_its_own_moments() -> None:
    predicted, measured = both("pre-norm", num_layers=2, activation="swiglu")
    assert predicted is not None
    # Products of two projections spread more than one.
    assert predicted.update_rms[1] == pytest.approx(measured["update_rms"][1], rel=0.2)
    assert predicted.state_grad_norm[2] == pytest.approx(measured["state_grad_norm"][2], rel=0.2)


def test_updates_are_amplified_in_proportion_to_depth_in_post_norm_and_by_ln_2_in_pre_norm() -> None:
    found = {}
    for scheme in ("pre-norm", "post-norm", "rezero"):
        predictions = [both(scheme, num_layers=layers, d_model=32)[0] for layers in (6, 12)]
        found[scheme] = [one.amplification for one in predictions if one is not None]
    assert found["pre-norm"] == pytest.approx([math.log(2)] * 2, rel=0.3)  # writes are not all of one size
    assert found["post-norm"][1] > 1.7 * found["post-norm"][0]
    assert found["rezero"] == pytest.approx([0, 0], abs=1e-9)


def test_there_is_no_theory_of_what_a_scheme_puts_inside_its_sublayers() -> None:
    assert both("sub-norm", num_layers=1)[0] is None


def test_a_prediction_leaves_the_model_as_it_was() -> None:
    model = addnorm.Transformer(addnorm.schemes.parse("pre-norm"), vocab_size=8, d_model=16, num_heads=2, num_layers=1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ids = torch.arange(6)[None]
    state = torch.random.get_rng_state()
    assert predict(model, ids, loss) == predict(model, ids, loss)
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
