"""What a scheme asks of the optimizer reaches each parameter."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from addnorm import EncoderDecoder, Stack, Transformer, schemes
from addnorm.config import OptimizerRule, RunConfig
from addnorm.residual import Connection, Scheme, Site
from addnorm.schemes.complete_p import CompleteP
from addnorm.schemes.layer_scale import LayerScaleConnection
from addnorm.schemes.pre_norm import PreNorm
from addnorm.training.optimizer import EPSILON, Optimizer, parameters_by_rule, parameters_by_type

SHAPE = {"vocab_size": 11, "d_model": 8, "num_heads": 2, "num_layers": 4}
CONFIG = RunConfig(connection_learning_rate=3.0, weight_decay=0.1)


@dataclass(frozen=True, kw_only=True)
class Particular(Scheme):
    """Asks for something else at each place."""

    def connection(self, d_model: int, site: Site) -> Connection:
        return LayerScaleConnection(d_model, self.norm, 0.5)

    def optimizer_rule(self, site: Site | None, own: str | None = None) -> OptimizerRule:
        if site is None:
            return OptimizerRule(learning_rate=5.0)
        if own == "scale":
            return OptimizerRule(learning_rate=0.01)
        return OptimizerRule(learning_rate=1.0 + site.layer, eps=0.5, weight_decay=0.0 if site.layer else 2.0)


def settings(model: nn.Module) -> dict[str, tuple[float, float, float]]:
    """Learning rate, eps and weight decay of each parameter, where the learning rate is 1."""
    names = {id(p): name for name, p in model.named_parameters()}
    optimizer = Optimizer(model, CONFIG)
    return {
        names[id(parameter)]: (buffer.rule.learning_rate, EPSILON * buffer.rule.eps, buffer.weight_decay)
        for buffer in optimizer.buffers.values()
        for parameter in buffer.places
    }


def test_a_step_is_as_large_as_the_rules_say():
    model = Transformer(Particular(), **SHAPE)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = Optimizer(model, RunConfig(weight_decay=0.0))
    for buffer in optimizer.buffers.values():
        buffer.gradient.fill_(EPSILON)
    optimizer.step(1e-3)
    # The first step of Adam is the learning rate times g / (g + eps): two thirds where eps is halved, else a half.
    for name, share in (
        ("embedding.tokens.weight", 5 / 2),
        ("stack.blocks.0.connection.scale", 0.01 / 2),
        ("stack.blocks.6.sublayer.q_proj.bias", 4 * 2 / 3),
    ):
        moved = (before[name] - dict(model.named_parameters())[name].detach()).mean().item()
        assert moved == pytest.approx(1e-3 * share, rel=1e-2), name  # float32 gradients of 1e-8


def test_each_parameter_is_treated_as_its_scheme_asks():
    model = Transformer(Particular(), **SHAPE)
    found = settings(model)
    assert found.keys() == {name for name, _ in model.named_parameters()}
    assert found["embedding.tokens.weight"] == (5.0, EPSILON, 0.0)
    assert found["stack.exit.norm.weight"] == (15.0, EPSILON, 0.0)
    assert found["stack.blocks.0.connection.scale"] == (pytest.approx(0.03), EPSILON, 0.0)
    assert found["stack.blocks.1.connection.norm.weight"] == (3.0, EPSILON / 2, 0.0)
    assert found["stack.blocks.0.sublayer.q_proj.weight"] == (1.0, EPSILON / 2, 0.2)
    assert found["stack.blocks.6.sublayer.q_proj.weight"] == (4.0, EPSILON / 2, 0.0)
    assert found["stack.blocks.6.sublayer.q_proj.bias"] == (4.0, EPSILON / 2, 0.0)


@pytest.mark.parametrize(
    ("scheme", "decaying"),
    [
        ("pre-norm", ()),
        ("hyper-connections", ("weight",)),
        ("frac-connections", ("weight",)),
        ("static-hyper-connections", ()),
        ("mhc", ("phi",)),
        ("mhc(reduce=head)", ("phi", "exit.weight")),
        ("mhc-lite", ("phi",)),
        ("deepseek-mhc", ("phi", "exit.weight")),
        ("single-pass-mhc", ("phi",)),
        ("mudd", ("down", "up")),
        ("dense-former", ("weights",)),
        ("laurel", ()),
        ("highway", ()),
        ("altup", ()),
        ("stochastic-depth(inner=hyper-connections)", ("weight",)),
        ("gpas(inner=mudd)", ("down", "up")),
        ("backout(inner=deepseek-mhc)", ("phi", "exit.inner.weight")),
        ("by-layer(first=hyper-connections, rest=hyper-connections)", ("weight",)),
    ],
)
def test_of_a_schemes_own_parameters_those_decay_that_its_authors_decay(scheme, decaying):
    model = Transformer(schemes.parse(scheme), **SHAPE)
    own = {id(p) for p in parameters_by_type(model).get("connection", [])}
    decay = {name: values[2] for name, values in settings(model).items()}
    found = {name for name, p in model.named_parameters() if id(p) in own and decay[name] == 0.1}
    expected = {
        name
        for name, p in model.named_parameters()
        if id(p) in own and "norm" not in name and name.endswith(tuple(f".{ending}" for ending in decaying))
    }
    assert found == expected
    assert bool(found) == bool(decaying)


def test_what_decays_shrinks_without_a_gradient():
    model = Transformer(schemes.get("mudd")(), **SHAPE)
    connection = model.stack.blocks[2].connection
    before = [connection.inward.down.detach().clone(), connection.inward.bias.detach().clone()]
    Optimizer(model, CONFIG).step(0.5)
    # Decoupled decay: times 1 - learning rate * decay, the learning rate three times as large for connections.
    torch.testing.assert_close(connection.inward.down.detach(), (1 - 0.5 * 3 * 0.1) * before[0])
    assert torch.equal(connection.inward.bias.detach(), before[1])


def test_the_ends_of_the_stack_are_asked_for_by_name():
    found = settings(Transformer(schemes.get("backout")(), **SHAPE))
    assert found["stack.exit.weight"][0] == pytest.approx(40 * 3)
    assert found["stack.exit.inner.norm.weight"][0] == 3.0


def test_without_a_wish_the_groups_are_those_by_type():
    model = Transformer(PreNorm(), **SHAPE)
    by_rule = {name: parameters for name, (_, parameters) in parameters_by_rule(model).items()}
    by_type = parameters_by_type(model)
    assert by_rule.keys() == by_type.keys()
    assert all(by_rule[name] is not None and [*map(id, by_rule[name])] == [*map(id, by_type[name])] for name in by_type)


def test_complete_p_scales_eps_in_the_layers_of_both_stacks_only():
    model = EncoderDecoder(CompleteP(base_layers=1), **SHAPE, encoder_layers=2)
    for name, (learning_rate, eps, _) in settings(model).items():
        layers = 2 if name.startswith("encoder.") else 4
        # The final norms too belong to the connections' group, for its learning rate.
        assert learning_rate == (3.0 if ".connection." in name or ".exit." in name else 1.0)
        assert eps == pytest.approx(EPSILON / layers if ".blocks." in name else EPSILON)


def test_a_bare_stack_and_a_module_without_a_scheme_can_be_trained():
    for model in (Stack(Particular(), [nn.Linear(8, 8)] * 4, 8), nn.Linear(8, 8)):
        assert all(eps > 0 for _, eps, _ in settings(model).values())


def test_moments_are_restored_by_group():
    torch.manual_seed(0)
    models = [Transformer(Particular(), **SHAPE) for _ in range(2)]
    first, second = (Optimizer(model, CONFIG) for model in models)
    for buffer in first.buffers.values():
        buffer.gradient.normal_()
    first.step(0.1)
    stored = first.tensors()
    second.load_(stored)
    again = second.tensors()
    assert stored.keys() == again.keys()
    assert {name for name in stored if name.startswith("steps/")} == {f"steps/{name}" for name in first.buffers}
    assert all(torch.equal(stored[name], again[name]) for name in stored)


def test_moments_of_a_run_whose_scheme_parted_its_parameters_less_are_restored():
    model = Transformer(schemes.get("hyper-connections")(), **SHAPE)
    optimizer = Optimizer(model, CONFIG)
    optimizer.step(0.1)
    stored = optimizer.tensors()
    assert "steps/connection-1" in stored
    del stored["steps/connection-1"]
    again = Optimizer(Transformer(schemes.get("hyper-connections")(), **SHAPE), CONFIG)
    again.load_(stored)
    assert all(buffer.steps == 1 for buffer in again.buffers.values())
