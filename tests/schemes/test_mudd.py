"""MUDD: dynamic mixtures of all layers' outputs, one each for queries, keys, values and skip."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from addnorm import Stack, Transformer, UserError
from addnorm.kernels import native
from addnorm.layers.views import Views
from addnorm.schemes._carried import OutputsKept
from addnorm.schemes.mudd import Mudd
from addnorm.schemes.pre_norm import PreNorm
from addnorm.stack import sites
from addnorm.testing.small_models import VOCAB, small, tokens
from transcription import D_MODEL, Parts, assert_agrees, norm, real_sublayers

KINDS = ("attention", "feedforward")


def mixtures(history: list[Tensor], p: dict[str, Tensor], name: str, eps: float) -> list[Tensor]:
    newest = history[-1]
    hidden = newest / (newest.square().mean(-1, keepdim=True) + eps) ** 0.5 @ p[f"{name}.down"].mT
    hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
    dynamic, bias = hidden @ p[f"{name}.up"].mT, p[f"{name}.bias"]
    count = len(history)
    return [
        sum((dynamic[..., way * count + j, None] + bias[way, j]) * one for j, one in enumerate(history))
        for way in range(len(bias))
    ]


def equation(eps: float, views: int):
    def compute(parts: Parts) -> Tensor:
        x, history = parts.x, [parts.x]
        for i in range(0, len(parts.F), 2):
            p, q = parts.at[i : i + 2]
            if i == 0:
                x = x + parts.F[i](norm(x, p, "norms.0"))
            else:
                *read, skip = mixtures(history, p, "inward", eps)
                assert len(read) == views
                normed = [norm(one, p, f"norms.{n}") for n, one in enumerate(read)]
                x = skip + parts.F[i](Views(*normed) if views == 3 else normed[0])
            x = x + parts.F[i + 1](norm(x, q, "norms.0"))
            history.append(x)
        (x,) = mixtures(history, parts.at[-1], "outward", eps)
        return norm(x, parts.exit, "norm")

    return compute


@pytest.mark.parametrize("kind", ["layer", "rms"])
@pytest.mark.parametrize(("kinds", "views"), [(KINDS, 3), (("module",), 1)])
def test_it_is_its_equation(kinds, views, kind):
    assert_agrees(Mudd(norm=kind, eps=1e-4), equation(1e-4, views), real_sublayers(3), kinds)


def test_at_first_it_is_pre_norm_bit_for_bit():
    ours, theirs = small(Mudd(), num_layers=3), small(PreNorm(norm="rms"), num_layers=3)
    torch.testing.assert_close(ours(tokens()), theirs(tokens()), rtol=1e-6, atol=1e-6)
    with native.switched(False):  # where one view is read, a kernel computes the whole attention
        assert torch.equal(ours(tokens()), theirs(tokens()))


def test_the_sizes_are_the_paper_s():
    """Layer l mixes l + 1 vectors in 4 ways, by as many hidden units; the last mixture: one way, fourfold units."""
    model = Transformer(Mudd(), vocab_size=VOCAB, d_model=16, num_heads=2, num_layers=3)
    shapes = {name: tuple(p.shape) for name, p in model.stack.named_parameters() if "ward" in name}
    assert shapes == {
        "blocks.2.connection.inward.down": (8, 16),
        "blocks.2.connection.inward.up": (8, 8),
        "blocks.2.connection.inward.bias": (4, 2),
        "blocks.4.connection.inward.down": (12, 16),
        "blocks.4.connection.inward.up": (12, 12),
        "blocks.4.connection.inward.bias": (4, 3),
        "blocks.5.connection.outward.down": (16, 16),
        "blocks.5.connection.outward.up": (4, 16),
        "blocks.5.connection.outward.bias": (1, 4),
    }


def test_each_way_reaches_what_it_is_named_after():
    """A weight on the embedding in one way changes that input of the attention, or the skip, alone."""
    places = sites(4, kinds=KINDS)
    connection = Stack(Mudd(norm="none"), real_sublayers(2), D_MODEL, places).blocks[2].connection
    embedding, output = torch.randn(5, D_MODEL), torch.randn(5, D_MODEL)
    for way in range(4):
        with torch.no_grad():
            connection.inward.bias.copy_(torch.tensor([[0.0, 1.0]]).expand(4, 2))
            connection.inward.bias[way, 0] = 2.0
        views, (skip, _) = connection.read(OutputsKept(output, (embedding, output)))
        for place, found in enumerate((*views, skip)):
            expected = output + 2 * embedding if place == way else output
            torch.testing.assert_close(found, expected)


def test_layers_of_one_sublayer_are_read_and_kept():
    stack = Stack(Mudd(), [nn.Linear(D_MODEL, D_MODEL) for _ in range(3)], D_MODEL, sites(3, 1))
    state = stack.entrance(torch.randn(2, D_MODEL))
    for block in stack.blocks:
        state = block(state)
    assert len(state.kept) == 4


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match="last_expand"):
        Mudd(last_expand=0)
    with pytest.raises(UserError, match="eps"):
        Mudd(eps=-1)
