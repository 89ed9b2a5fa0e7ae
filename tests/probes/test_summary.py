"""The table of a model: parameters, operations and bytes of each sublayer, and the vectors that are carried."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import addnorm
from addnorm import Stack, Transformer, UserError, schemes, summary
from addnorm.probes.memory import activation_bytes

WIDTH, TOKENS, LAYERS = 64, 64, 3  # an example has 64 tokens


def model(scheme: str = "pre-norm") -> Transformer:
    return Transformer(schemes.parse(scheme), vocab_size=256, d_model=WIDTH, num_heads=4, num_layers=LAYERS)


def test_the_numbers_of_a_sublayer_are_those_of_its_matrices() -> None:
    attention, feedforward, around, whole = summary(model()).rows
    norm, square = 2 * WIDTH, WIDTH**2
    assert (attention.count, attention.name) == (LAYERS, "attention")
    assert attention.parameters == 4 * (square + WIDTH) + norm
    assert feedforward.parameters == 8 * square + 4 * WIDTH + WIDTH + norm
    assert attention.connection_parameters == feedforward.connection_parameters == norm
    # Four projections; scores and their sum of values for every pair of tokens.
    assert attention.flops == 2 * 4 * square + 2 * 2 * TOKENS * WIDTH
    assert feedforward.flops == 2 * 8 * square
    assert around.parameters == 256 * WIDTH + norm and around.flops == 2 * 256 * WIDTH
    assert whole.parameters == sum(p.numel() for p in model().parameters())
    assert whole.flops == LAYERS * (attention.flops + feedforward.flops) + around.flops


def test_the_bytes_of_the_model_are_those_that_a_forward_keeps() -> None:
    made = model("mhc")
    kept = activation_bytes(made, made.example(), lambda model, batch: model(*batch).sum())
    assert summary(made).rows[-1].kept == kept / TOKENS


@pytest.mark.parametrize(
    ("scheme", "vectors"),
    [("pre-norm", [1, 1]), ("mhc(streams=4)", [4, 4]), ("residual-dual", [2, 2]), ("attention-residuals", range(2, 8))],
)
def test_the_vectors_are_those_of_the_state(scheme: str, vectors: list[int]) -> None:
    assert [row.vectors for row in summary(model(scheme)).rows[:-2]] == list(vectors)


def test_the_model_is_as_it_was() -> None:
    made = model()
    state, before = torch.get_rng_state(), {name: p.clone() for name, p in made.state_dict().items()}
    summary(made)
    assert torch.equal(torch.get_rng_state(), state) and made.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.state_dict().items())
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in made.modules())
    assert all(p.grad is None for p in made.parameters())


def test_any_module_with_a_stack_is_summed_up_on_a_batch() -> None:
    stack = Stack(schemes.parse("pre-norm"), [nn.Linear(8, 8) for _ in range(2)], 8)
    inner, _, whole = summary(nn.Sequential(nn.Linear(4, 8), stack), torch.randn(2, 5, 4)).rows
    assert (inner.count, inner.name, inner.flops) == (2, "module", 2 * 8 * 8)
    assert whole.flops == 2 * 4 * 8 + 2 * inner.flops


def test_the_stacks_of_a_model_are_told_apart() -> None:
    made = addnorm.EncoderDecoder(schemes.parse("pre-norm"), vocab_size=13, d_model=8, num_heads=2, num_layers=1)
    assert [row.name for row in summary(made).rows] == [
        "encoder: attention",
        "encoder: feedforward",
        "decoder: attention",
        "decoder: cross-attention",
        "decoder: feedforward",
        "what stands around them",
        "the model",
    ]


def test_it_reads_as_a_table_of_equal_lines_and_as_html() -> None:
    table = summary(model())
    lines = str(table).splitlines()
    assert len({len(line) for line in lines}) == 1 and lines[1].startswith("3 x attention ")
    assert "16,768" in lines[1] and repr(table) == str(table)
    assert table._repr_html_().count("<tr>") == len(lines)


def test_what_has_no_stack_or_needs_a_batch_is_refused() -> None:
    with pytest.raises(UserError, match=r"a Linear has no addnorm\.Stack in it"):
        summary(nn.Linear(2, 2))
    with pytest.raises(UserError, match="a Stack needs a batch"):
        summary(Stack(schemes.parse("pre-norm"), [nn.Linear(8, 8)], 8))
