"""Finding and tracing leave a model, its gradients, its mode and the random stream as they were."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import addnorm
from addnorm.diagnosis import tracer
from addnorm.diagnosis.find import find
from addnorm.diagnosis.tracer import trace
from addnorm.errors import UserError
from diagnosis.models_of_others import MODELS, VOCAB, ByHand, ids


class Tied(nn.Module):
    """A model of a user: dropout, BatchNorm, frozen weights, a head that is the table, some modules in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCAB, 16)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 32), nn.BatchNorm1d(8), nn.GELU(), nn.Linear(32, 16))
            for _ in range(3)
        )
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(16, VOCAB, bias=False)
        self.head.weight = self.table.weight
        for parameter in self.blocks[0].parameters():
            parameter.requires_grad_(False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table(tokens)
        for block in self.blocks:
            x = x + self.dropout(block(x))
        return self.head(x)


def tied() -> Tied:
    torch.manual_seed(0)
    model = Tied().train()
    model.blocks[1].eval()
    F.cross_entropy(model(ids()).flatten(0, 1), ids().flatten()).backward()
    return model


def everything(model: nn.Module) -> dict[str, Any]:
    """All of a model that somebody could notice."""
    named = dict(model.named_parameters(remove_duplicate=False))
    return {
        "numbers": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "gradients": {name: None if p.grad is None else p.grad.clone() for name, p in named.items()},
        "which gradients": {name: id(p.grad) for name, p in named.items()},
        "trained": {name: p.requires_grad for name, p in named.items()},
        "objects": {name: id(p) for name, p in named.items()},
        "modes": [module.training for module in model.modules()],
        "hooks": [
            len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)
            for module in model.modules()
        ],
        "attributes": [sorted(module.__dict__) for module in model.modules()],
        "random": torch.get_rng_state(),
        "grad mode": torch.is_grad_enabled(),
        "fast path": torch.backends.mha.get_fastpath_enabled(),
    }


def assert_same(after: dict[str, Any], before: dict[str, Any]) -> None:
    for what, value in before.items():
        pairs = zip(tree_leaves(after[what]), tree_leaves(value), strict=True)
        assert all(torch.equal(a, b) if isinstance(b, Tensor) else a == b for a, b in pairs), what


def looked(model: nn.Module, batch: Any) -> None:
    find(model, batch)
    trace(model, batch, loss=lambda output: tracer.logits_of(output).square().mean())


@pytest.mark.parametrize("around", [torch.enable_grad, torch.no_grad])
def test_nothing_is_left_behind(around: Callable[[], Any]) -> None:
    model = tied()
    before = everything(model)
    with around():
        looked(model, ids())
    assert_same(everything(model), before)


def test_nothing_is_left_behind_by_a_model_that_fails_half_way() -> None:
    model = tied()
    model.blocks[2][4] = nn.Linear(32, 15)
    before = everything(model)
    with pytest.raises(UserError, match=r"Tied does not run on a tensor of shape \(2, 8\)"):
        find(model, ids())
    assert_same(everything(model), before)
    assert len(torch.overrides._get_current_function_mode_stack()) == 0


@pytest.mark.parametrize("name", ["llama", "torch, Post-LN", "mhc", "by hand"])
def test_the_graph_of_a_forward_is_freed(name: str) -> None:
    model, batch = MODELS[name]()
    found = trace(model, batch)
    assert not any(tensor.requires_grad for one in found for tensor in (*one.states, *one.writes))
    gc.collect()
    alive = sum(isinstance(each, tracer.Tape) for each in gc.get_objects() if type(each).__name__ == "Tape")
    assert alive == 0


@pytest.mark.parametrize("name", ["llama", "t5", "gpt_neox, parallel", "by hand"])
@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
def test_gradients_come_in_whatever_mode_it_is_called(name: str, around: Callable[[], Any]) -> None:
    model, batch = MODELS[name]()
    loss = lambda output: tracer.logits_of(output).square().mean()  # noqa: E731
    expected = trace(model, batch, loss=loss)[-1].state_gradients
    with around():
        found = trace(model, batch, loss=loss)[-1].state_gradients
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one is not None and other is not None and torch.equal(one, other)


def test_gradients_come_through_frozen_parameters() -> None:
    model, batch = MODELS["llama"]()
    model.requires_grad_(False)
    found = trace(model, batch, loss=lambda output: output.logits.square().mean())[0]
    assert all(gradient is not None for gradient in found.state_gradients)
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_the_gradient_at_a_state_is_that_of_autograd() -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True), 2).eval()
    x = torch.randn(2, 5, 16, requires_grad=True)
    middle = model.layers[0](x)
    middle.retain_grad()
    model.layers[1](middle).pow(3).sum().backward()
    found = trace(model, x.detach(), loss=lambda output: output.pow(3).sum())[0]
    assert x.grad is not None and middle.grad is not None
    for i, expected in ((0, x.grad), (2, middle.grad)):
        gradient = found.state_gradients[i]
        assert gradient is not None
        torch.testing.assert_close(gradient.squeeze(-2), expected)


@pytest.mark.parametrize("name", ["llama", "gpt2", "torch, Pre-LN", "mhc", "attention-residuals"])
def test_bfloat16_is_traced_as_it_is(name: str) -> None:
    model, batch = MODELS[name]()
    batch = batch.bfloat16() if isinstance(batch, Tensor) and batch.is_floating_point() else batch
    found = trace(model.bfloat16(), batch, loss=lambda output: tracer.logits_of(output).float().square().mean())[0]
    assert {state.dtype for state in (*found.states, *found.writes)} == {torch.bfloat16}
    if found.trunk.layout == "one stream":
        for i, write in enumerate(found.writes):
            assert torch.equal(found.states[i].squeeze(-2) + write, found.states[i + 1].squeeze(-2))


def test_a_batch_in_parts_gives_the_trace_of_the_whole() -> None:
    model, batch = MODELS["t5"]()
    batch = batch | {"attention_mask": torch.ones(2, 8, dtype=torch.long)}
    targets = ids(5).clone()
    targets[0, 3:] = -100
    whole, parts = (trace(model, batch, targets=targets, rows=rows) for rows in (None, 1))
    for one, other in zip(whole, parts, strict=True):
        assert one.loss == pytest.approx(other.loss)
        # Products of another number of rows are rounded otherwise.
        torch.testing.assert_close([*one.states], [*other.states], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close([*one.state_gradients], [*other.state_gradients], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(one.attention, other.attention, rtol=1e-5, atol=1e-6)


class Hungry(ByHand):
    """Runs out of memory on more than some rows."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, tokens: Tensor) -> Tensor:
        if len(tokens) > self.rows:
            raise torch.OutOfMemoryError("tried to allocate 99 GiB")
        return super().forward(tokens)


def test_a_batch_that_does_not_fit_memory_is_halved_until_it_does() -> None:
    batch = ids().repeat(3, 1)
    (found,) = trace(Hungry(2), batch)
    (whole,) = trace(ByHand(), batch)
    assert found.states[-1].shape[0] == 6
    torch.testing.assert_close(found.states[-1], whole.states[-1], rtol=1e-5, atol=1e-5)
    with pytest.raises(UserError, match="one sample of the batch does not fit memory"):
        trace(Hungry(0), batch)
    with pytest.raises(UserError, match="one sample of the batch does not fit memory"):
        find(Hungry(0), batch)


@pytest.mark.parametrize("name", ["llama", "by hand", "torch, Post-LN"])
def test_attention_is_shown_whoever_computes_it(name: str) -> None:
    model, batch = MODELS[name]()
    (found,) = trace(model, batch)
    assert len(found.attention) == 3
    for weights in found.attention.values():
        assert weights.shape == (2, 4, 8, 8)
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 8))
        assert bool((weights.triu(1) == 0).all()) == (name != "torch, Post-LN")


def test_the_first_module_that_is_not_finite_is_named() -> None:
    model, batch = MODELS["llama"]()
    assert trace(model, batch)[0].non_finite is None
    with torch.no_grad():
        model.get_parameter("model.layers.1.mlp.up_proj.weight")[0, 0] = float("inf")
    assert trace(model, batch)[0].non_finite == "model.layers.1.mlp.up_proj"


@pytest.mark.parametrize(
    ("model", "batch", "said"),
    [
        (nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)), torch.randn(2, 4), "has no residual trunk"),
        (ByHand(), torch.full((1, 3), VOCAB), "does not run on a tensor of shape (1, 3) and int64: IndexError"),
        (ByHand(), {"words": ids()}, "does not run on a dict of words: TypeError"),
        (ByHand(), (ids(), ids()), "does not run on 2 arguments: TypeError"),
    ],
)
def test_what_cannot_be_looked_at_is_said_in_one_line(model: nn.Module, batch: Any, said: str) -> None:
    with pytest.raises(UserError) as refused:
        find(model, batch)
    assert said in str(refused.value) and "\n" not in str(refused.value)


class InPlace(nn.Module):
    """Writes over what backward needs."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = x + 0
        for part in self.parts:
            x += part(x.sin())
        return x


def test_states_that_are_written_over_are_kept_as_they_were() -> None:
    torch.manual_seed(0)
    (found,) = trace(InPlace(), torch.randn(2, 5, 8))
    for i, write in enumerate(found.writes):
        assert torch.equal(found.states[i].squeeze(-2) + write, found.states[i + 1].squeeze(-2))
    with pytest.raises(UserError, match="has no gradient.*in place"):
        trace(InPlace(), torch.randn(2, 5, 8), loss=lambda output: output.square().mean())


def test_a_diagnosis_takes_the_samples_for_which_there_is_memory() -> None:
    found = addnorm.diagnose(Hungry(2), ids().repeat(3, 1), targets=ids().repeat(3, 1))
    alone = addnorm.diagnose(ByHand(), ids(), targets=ids())
    assert found.loss == pytest.approx(alone.loss)
    assert found.sound and found.trunks[0].of("state rms").values == alone.trunks[0].of("state rms").values
    with pytest.raises(UserError, match="one sample of the batch does not fit memory"):
        addnorm.diagnose(Hungry(0), ids())
