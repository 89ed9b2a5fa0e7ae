"""The final state is the sum of what came of the embedding and of every write."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from addnorm.diagnosis.decomposition import Decomposition
from addnorm.diagnosis.frozen_norm import frozen
from diagnosis.hand_made import language_model, made, subject

# Relative: of the float32 arithmetic of a dozen writes.
EXACT = 1e-6

OF_THE_FORM = [
    "pre-norm",
    "pre-norm(norm=rms)",
    "post-norm",
    "post-norm(norm=rms)",
    "mhc",
    "mhc(streams=2)",
    "hyper-connections",
    "static-hyper-connections",
    "deepseek-mhc",
    "mhc-lite",
    "single-pass-mhc",
    "attention-residuals",
    "block-attention-residuals(num_blocks=2)",
    "dense-former",
    "residual-dual",
    "residual-lambdas",
    "deep-delta",
    "unet-skips",
]


def decomposed(scheme: str, **shape: int) -> Decomposition:
    """Of a small model whose connections all act."""
    found = subject(language_model(scheme, **shape)).decomposition
    assert found is not None
    return found


@pytest.mark.parametrize("scheme", OF_THE_FORM)
def test_the_parts_sum_up_to_the_final_state(scheme: str) -> None:
    found = decomposed(scheme)
    whole = found.parts.sum(0) + found.biases
    assert float((whole - found.total).norm()) <= EXACT * float(found.total.norm())
    assert found.error <= EXACT
    assert max(found.sites) <= EXACT


@pytest.mark.parametrize("scheme", ["pre-norm", "post-norm", "mhc"])
def test_it_stays_exact_through_24_layers(scheme: str) -> None:
    assert decomposed(scheme, num_layers=24).error <= EXACT


@pytest.mark.parametrize("scheme", ["pre-norm", "mhc", "attention-residuals"])
def test_every_part_is_what_the_end_loses_with_it(scheme: str) -> None:
    """The maps held, the end without a write is the end less its part: the part is known by another way."""
    case = subject(language_model(scheme))
    found = case.decomposition
    assert found is not None
    state = case.trace.states[0].flatten(0, -3).double()
    for site, write in enumerate(case.trace.writes):
        rows = case.write_maps[site].rows
        vectors = torch.cat([state, (site != 2) * write.flatten(0, -2)[:, None].double()], dim=1)
        state = torch.stack([(row.coefficients[:, 0, :, None] * vectors).sum(1) for row in rows], dim=1)
    assert found.weights is not None
    end = (found.weights[..., None] * state).sum(1)
    assert float((found.total - end - found.parts[3]).norm()) <= EXACT * float(found.total.norm())


def test_of_one_plain_stream_each_part_is_the_write_itself() -> None:
    case = subject(language_model("pre-norm"))
    found = case.decomposition
    assert found is not None
    sources = torch.stack([case.trace.states[0].squeeze(-2), *case.trace.writes]).flatten(1, 2).double()
    assert torch.allclose(found.parts, sources, rtol=1e-5, atol=1e-6)  # the fitted 1 is off by the sum's rounding
    assert float(found.biases.abs().max()) == 0


def test_of_full_attention_residuals_each_part_is_its_weight_times_the_write() -> None:
    case = subject(language_model("attention-residuals"))
    found = case.decomposition
    assert found is not None
    assert found.weights is not None
    assert torch.allclose(found.weights.sum(-1), torch.ones(12, dtype=torch.float64), atol=1e-5)  # a float32 softmax
    writes = torch.stack([case.trace.states[0].squeeze(-2), *case.trace.writes], dim=-2).flatten(0, 1).double()
    assert torch.allclose(found.parts.movedim(0, 1), found.weights[..., None] * writes, atol=1e-5)


def test_the_shifts_of_norms_on_the_trunk_are_their_own_part() -> None:
    model = language_model("post-norm", shake=0.0)
    with torch.no_grad():
        model.stack.blocks[-1].connection.norm.bias.fill_(2.0)
    found = subject(model).decomposition
    assert found is not None
    assert torch.allclose(found.biases, torch.full_like(found.biases, 2.0), atol=1e-6)


@pytest.mark.parametrize("scheme", ["highway", "laurel"])
def test_what_is_of_another_form_is_reported_and_the_sum_still_holds(scheme: str) -> None:
    found = decomposed(scheme)
    assert found.error > 0.05
    whole = found.parts.sum(0) + found.biases + found.remainder
    assert torch.allclose(whole, found.total, atol=1e-9)  # float64


def test_a_write_that_is_not_what_was_written_is_found_at_its_site() -> None:
    generator = torch.Generator().manual_seed(0)
    states = [torch.randn(2, 5, 16, generator=generator)]
    for _ in range(3):
        states.append(states[-1] + torch.randn(2, 5, 16, generator=generator))
    writes = [b - a for a, b in zip(states, states[1:], strict=False)]
    writes[1] = torch.randn(2, 5, 16, generator=generator)
    case = made(states, writes, hidden=states[-1])
    found = case.decomposition
    assert found is not None
    assert [error > 0.1 for error in found.sites] == [False, True, False]


def test_tokens_are_followed_alike_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = decomposed("mhc")
    monkeypatch.setattr("addnorm.diagnosis.decomposition.CHUNK_BYTES", 1)
    assert torch.equal(decomposed("mhc").parts, whole.parts)


class OneAndGain(nn.Module):
    """An RMSNorm whose gain is 1 + weight, as Gemma's."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(d_model, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> Tensor:
        """Normalised in float32 whatever comes."""
        normed = x.float() * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + 1e-6)
        return (normed * (1 + self.weight.float())).type_as(x)


@pytest.mark.parametrize("d_model", [8, 9])
@pytest.mark.parametrize("kind", [nn.LayerNorm, nn.RMSNorm, OneAndGain])
def test_a_norms_gain_and_shift_are_found_by_what_it_does(kind: type[nn.Module], d_model: int) -> None:
    norm = kind(d_model)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(torch.randn(d_model, generator=torch.Generator().manual_seed(0)))
    found = frozen(norm, d_model)
    assert found is not None
    assert found.centred == (kind is nn.LayerNorm)
    weight = norm.get_parameter("weight").detach().double() + (kind is OneAndGain)
    assert torch.allclose(found.gain / found.gain[0], weight / weight[0], rtol=1e-5)  # up to a factor
    if kind is nn.LayerNorm:
        assert torch.allclose(found.shift, norm.get_parameter("bias").detach().double())


@pytest.mark.parametrize("module", [nn.Linear(8, 8), nn.LayerNorm(4), nn.Tanh(), nn.Embedding(8, 8)])
def test_what_is_no_norm_is_refused(module: nn.Module) -> None:
    assert frozen(module, 8) is None
