"""Residual lambdas: the stream is scaled, and the embedding mixed in, before every layer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from addnorm import Stack, UserError, schemes
from addnorm.config import RunConfig
from addnorm.schemes.pre_norm import PreNorm
from addnorm.schemes.residual_lambdas import ResidualLambdas
from addnorm.stack import sites
from addnorm.testing.small_models import noise_like, small
from addnorm.training.optimizer import Optimizer
from transcription import D_MODEL, Parts, assert_agrees, norm, real_sublayers


def equation(parts: Parts) -> Tensor:
    start = x = norm(parts.x, parts.entrance, "norm")
    for layer in range(len(parts.F) // 2):
        p, q = parts.at[2 * layer : 2 * layer + 2]
        x = p["residual"] * x + p["embedding"] * start
        x = x + parts.F[2 * layer](norm(x, p, "norm"))
        x = x + parts.F[2 * layer + 1](norm(x, q, "norm"))
    return norm(x, parts.exit, "norm")


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_it_is_its_equation(kind):
    assert_agrees(ResidualLambdas(norm=kind), equation, real_sublayers(3))


def test_the_scalars_start_as_in_nanochat():
    depth = 12
    stack = Stack(ResidualLambdas(), real_sublayers(depth), D_MODEL)
    for layer in range(depth):
        opening, other = stack.blocks[2 * layer].connection, stack.blocks[2 * layer + 1].connection
        assert opening.residual.item() == pytest.approx(1.15 - 0.10 * layer / 11)
        assert opening.embedding.item() == pytest.approx(0.20 - 0.15 * layer / 11)
        assert [name for name, _ in other.named_parameters()] == ["norm.weight"]


def test_a_lone_layer_has_the_first_values():
    connection = ResidualLambdas().connection(D_MODEL, sites(2)[0])
    assert (connection.residual.item(), connection.embedding.item()) == pytest.approx((1.15, 0.20))


def test_at_one_and_zero_it_is_pre_norm_of_the_normalised_embedding():
    scheme = schemes.parse(
        "residual-lambdas(residual_first=1, residual_last=1, embedding_first=0, embedding_last=0, norm=layer)"
    )
    torch.manual_seed(0)
    ours = Stack(scheme, real_sublayers(2), D_MODEL)
    torch.manual_seed(0)
    theirs = Stack(PreNorm(), real_sublayers(2), D_MODEL)
    x = noise_like(torch.empty(2, 5, D_MODEL))
    plain = theirs(torch.nn.functional.layer_norm(x, (D_MODEL,)))
    torch.testing.assert_close(ours(x), plain, rtol=0, atol=1e-5)  # two ways to normalise, in float32


def test_the_embedding_scalars_learn_a_hundred_times_as_fast():
    scheme, site = ResidualLambdas(), sites(4)[0]
    assert scheme.optimizer_rule(site, "embedding").learning_rate == 100
    for own in ("residual", "norm.weight", None):
        assert scheme.optimizer_rule(site, own).learning_rate == 1


def test_values_that_cannot_be_are_refused():
    with pytest.raises(UserError, match="residual_last"):
        ResidualLambdas(residual_last=float("nan"))
    with pytest.raises(UserError, match="embedding_learning_rate"):
        ResidualLambdas(embedding_learning_rate=0)


def test_the_factors_of_the_stream_decay_half_as_much_as_matrices_and_nothing_else_of_the_scheme_does():
    model = small(ResidualLambdas())
    names = {parameter: name for name, parameter in model.named_parameters()}
    decays = {
        names[parameter]: buffer.weight_decay
        for buffer in Optimizer(model, RunConfig(weight_decay=0.1)).buffers.values()
        for parameter in buffer.places
    }
    own = {name: decay for name, decay in decays.items() if ".connection." in name}
    assert {name.rpartition(".")[2] for name, decay in own.items() if decay} == {"residual"}
    assert decays["stack.blocks.0.connection.residual"] == 0.05
