"""Keyed draws: the same seed and place give the same weights, whatever else is in the model."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from addnorm import Transformer, UserError, schemes
from addnorm.layers.initialise import generator_for, initialise_


def model(*extra: nn.Module) -> nn.ModuleDict:
    parts: dict[str, nn.Module] = {str(i): layer for i, layer in enumerate(extra)}
    return nn.ModuleDict(
        parts | {"first": nn.Linear(40, 60), "second": nn.Linear(40, 60), "table": nn.Embedding(90, 50)}
    )


def drawn(seed: int, rule: str = "xavier", *extra: nn.Module) -> nn.ModuleDict:
    made = model(*extra)
    initialise_(made, seed, rule)
    return made


def test_the_same_seed_gives_the_same_weights():
    for a, b in zip(drawn(0).parameters(), drawn(0).parameters(), strict=True):
        assert torch.equal(a, b)


def test_another_seed_or_another_place_gives_other_weights():
    made = drawn(0)
    assert not torch.equal(made["first"].weight, drawn(1)["first"].weight)
    assert not torch.equal(made["first"].weight, made["second"].weight)


def test_what_else_is_in_the_model_changes_nothing():
    with_more = drawn(0, "xavier", nn.Linear(7, 7), nn.LayerNorm(3), nn.Conv1d(2, 2, 3))
    assert torch.equal(drawn(0)["first"].weight, with_more["first"].weight)


def test_the_global_generator_is_left_alone():
    made = model(nn.Conv1d(4, 4, 3))  # fills itself from the global generator
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    initialise_(made, 0)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_layer_that_fills_itself_is_keyed_too():
    torch.manual_seed(1)
    first = drawn(0, "xavier", nn.Conv1d(4, 4, 3))
    torch.manual_seed(2)
    assert torch.equal(first["0"].weight, drawn(0, "xavier", nn.Conv1d(4, 4, 3))["0"].weight)
    assert not torch.equal(first["0"].weight, drawn(1, "xavier", nn.Conv1d(4, 4, 3))["0"].weight)


@pytest.mark.parametrize(
    ("rule", "linear", "embedding"), [("xavier", math.sqrt(2 / 100), 50**-0.5), ("normal", 0.02, 0.02)]
)
def test_weights_have_the_mean_and_deviation_of_their_rule(rule, linear, embedding):
    made = drawn(0, rule)
    for weight, deviation in ((made["first"].weight, linear), (made["table"].weight, embedding)):
        # Five standard errors.
        assert abs(weight.mean()) < 5 * deviation / math.sqrt(weight.numel())
        assert weight.std().item() == pytest.approx(deviation, rel=5 / math.sqrt(2 * weight.numel()))
    assert (made["first"].bias == 0).all()


def test_norms_go_back_to_gain_one_and_bias_zero():
    norm = nn.LayerNorm(4)
    nn.init.constant_(norm.weight, 7.0)
    drawn(0, "xavier", norm)
    assert (norm.weight == 1).all()
    assert (norm.bias == 0).all()


class Gate(nn.Module):
    """A module that fills itself, and has the last word on its child."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.norm = nn.Parameter(torch.empty(3)), nn.LayerNorm(3)

    def reset_parameters(self) -> None:
        nn.init.uniform_(self.gate)
        nn.init.constant_(self.norm.weight, 0.5)


def test_a_module_fills_itself_after_its_children():
    gates = [drawn(0, "xavier", Gate())["0"] for _ in range(2)]
    assert torch.equal(gates[0].gate, gates[1].gate)
    assert (gates[0].norm.weight == 0.5).all()
    assert (gates[0].norm.bias == 0).all()


class ZeroLinear(nn.Linear):
    """A linear that has its own word on its weights."""

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)


def test_a_linear_with_its_own_reset_is_not_drawn_by_the_rule():
    layer = ZeroLinear(3, 4, bias=False)
    nn.init.ones_(layer.weight)
    assert (drawn(0, "xavier", layer)["0"].weight == 0).all()


def test_no_module_of_ours_knows_another_name_for_drawing_its_weights():
    for scheme in map(schemes.parse, schemes.names()):
        calibrated = "later" if scheme.needs_calibration else None
        stack = Transformer(
            scheme, vocab_size=8, d_model=16, num_heads=2, num_layers=2, attention="plain", calibration=calibrated
        )
        for module in stack.modules():
            own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
            assert not own or callable(module.reset_parameters), type(module)
            assert not hasattr(module, "init_"), type(module)


class Unfillable(nn.Module):
    """A parameter and no way to fill it."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))


def test_a_module_that_cannot_be_filled_is_named():
    with pytest.raises(UserError, match=r"^0 \(Unfillable\) has parameters; give it a method reset_parameters\(\)\.$"):
        drawn(0, "xavier", Unfillable())


def test_an_unknown_rule_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match="init 'xaver' is unknown; did you mean 'xavier'"):
        drawn(0, "xaver")


def test_meta_parameters_are_left_and_filled_once_they_are_real():
    with torch.device("meta"):
        made = model()
    initialise_(made, 0)
    assert made["first"].weight.is_meta
    made.to_empty(device="cpu")
    initialise_(made, 0)
    for a, b in zip(made.parameters(), drawn(0).parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_generator_depends_on_seed_and_path_alone():
    def first(seed: int, path: str) -> float:
        return torch.rand((), generator=generator_for(seed, path)).item()

    assert first(0, "a") == first(0, "a")
    assert len({first(0, "a"), first(1, "a"), first(0, "b"), first(0, "a.b")}) == 4
