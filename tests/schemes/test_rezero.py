"""ReZero: a gate that starts closed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from addnorm import Stack, Transformer, UserError
from addnorm.schemes.rezero import ReZero
from addnorm.testing.small_models import embedded, noise_like, small, states, surroundings, tokens
from transcription import Parts, assert_agrees, norm, real_sublayers


@pytest.mark.parametrize("gate", ["layer", "sublayer"])
@pytest.mark.parametrize("kind", ["none", "layer", "rms"])
def test_it_is_its_equation(kind, gate):
    def equation(parts: Parts) -> Tensor:
        x = parts.x
        for i, (F, p) in enumerate(zip(parts.F, parts.at, strict=True)):
            a = parts.at[i - i % 2 if gate == "layer" else i]["gate"]
            x = x + a * F(norm(x, p, "norm"))
        return norm(x, parts.exit, "norm")

    assert_agrees(ReZero(norm=kind, gate=gate), equation)


def test_the_sublayers_of_a_layer_share_a_gate():
    for scheme, gates in ((ReZero(), 2), (ReZero(gate="sublayer"), 4)):
        names = [name for name, _ in small(scheme).named_parameters() if name.endswith("gate")]
        assert len(names) == gates


def test_between_layers_the_state_is_the_stream_and_within_one_too_the_exit_reads_it():
    model, ids = small(ReZero()), tokens()
    found = states(model, ids)
    assert [isinstance(state, Tensor) for state in found] == [True, False, True, False, True]
    assert all(torch.equal(model.stack.exit(state), found[0]) for state in found)


def test_an_unknown_gate_is_refused():
    with pytest.raises(UserError, match="gate 'token'"):
        ReZero(gate="token")


def test_it_has_no_norm_unless_asked():
    assert ReZero().norm == "none"


def test_a_stack_of_any_modules_starts_as_the_identity():
    x = noise_like(torch.empty(2, 5, 12))
    assert torch.equal(Stack(ReZero(), real_sublayers(2), 12)(x), x)


def test_the_stack_of_a_model_starts_as_the_identity():
    model, ids = small(ReZero()), tokens()
    embedding = embedded(model, ids)
    assert torch.equal(model.stack(embedding, surroundings(ids)), embedding)


@pytest.mark.parametrize("num_layers", [4, 16])
def test_at_the_first_step_only_the_gates_move(num_layers):
    size = {"vocab_size": 11, "d_model": 8, "num_heads": 2, "num_layers": num_layers}
    model = Transformer(ReZero(), **size)
    model(tokens()).square().sum().backward()
    for block in model.stack.blocks:
        assert all((parameter.grad == 0).all() for parameter in block.sublayer.parameters())
        if block.connection.gate is not None:
            assert (block.connection.gate.grad != 0).all()
