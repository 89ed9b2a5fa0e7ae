"""LAuReL: a weighted sum, and a low-rank map of earlier states on the skip."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from addnorm import Stack, UserError, schemes
from addnorm.schemes.laurel import Laurel, Recent
from addnorm.schemes.pre_norm import PreNorm
from addnorm.testing.small_models import small, tokens
from transcription import D_MODEL, Parts, assert_agrees, norm, real_sublayers


def equation(previous: int):
    def compute(parts: Parts) -> Tensor:
        states = [parts.x]
        for F, p in zip(parts.F, parts.at, strict=True):
            x = states[-1]
            alpha = beta = 1.0
            if "logits" in p:
                a, b = p["logits"].exp()
                alpha, beta = 2 * a / (a + b), 2 * b / (a + b)
            skip = x
            if "low_rank.up" in p:
                latest = states[::-1][:previous]
                gamma = p.get("low_rank.gamma", torch.ones(1, dtype=x.dtype))
                seen = sum(g * one for g, one in zip(gamma, latest, strict=True))
                skip = x + seen @ p["low_rank.down"].mT @ p["low_rank.up"].mT
            states.append(alpha * F(norm(x, p, "norm")) + beta * skip)
        return norm(states[-1], parts.exit, "norm")

    return compute


@pytest.mark.parametrize("kind", ["layer", "rms"])
@pytest.mark.parametrize(
    ("weights", "rank", "previous"),
    [("softmax", 3, 1), ("softmax", 0, 1), ("none", 3, 1), ("none", 3, 3), ("softmax", 2, 2)],
)
def test_it_is_its_equation(weights, rank, previous, kind):
    scheme = Laurel(norm=kind, weights=weights, rank=rank, previous=previous)
    assert_agrees(scheme, equation(previous))


@pytest.mark.parametrize("text", ["laurel", "laurel(rank=0)", "laurel(weights=none, rank=4)", "laurel(previous=3)"])
def test_at_first_every_variant_is_pre_norm(text):
    # 0: zero times the map, and weights of exactly one.
    assert torch.equal(small(schemes.parse(text))(tokens()), small(PreNorm())(tokens()))


@pytest.mark.parametrize(("width", "rank"), [(12, 4), (12, 5), (10, 32)])
def test_the_map_starts_with_orthogonal_rows_of_the_paper_s_size(width, rank):
    connection = Stack(Laurel(rank=rank), [torch.nn.Linear(width, width)], width).blocks[0].connection
    down, up = connection.low_rank.down, connection.low_rank.up
    rank = min(rank, width)
    expected = torch.zeros(rank, width)
    for feature in range(width):
        expected[feature % rank, feature] = (rank * width) ** -0.5
    torch.testing.assert_close(down.detach(), expected)
    gram = down @ down.mT
    torch.testing.assert_close(gram, torch.diag(gram.diag()))
    assert (up == 0).all()


def test_the_weights_add_up_to_two_however_far_they_are_pushed():
    connection = Stack(Laurel(rank=0), real_sublayers(1), D_MODEL).blocks[0].connection
    with torch.no_grad():
        connection.logits.copy_(torch.tensor([30.0, -30.0]))
    one = torch.ones(1, D_MODEL)
    torch.testing.assert_close(connection.write(Recent(3 * one), 5 * one).stream, 10 * one)


def test_no_more_states_are_kept_than_are_read():
    stack = Stack(Laurel(previous=3), real_sublayers(3), D_MODEL)
    state, kept = stack.entrance(torch.randn(1, 2, D_MODEL)), []
    for block in stack.blocks:
        state = block(state)
        kept.append(1 + len(state.earlier))
    assert kept == [2, 3, 3, 3, 3, 3]


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match="rank"):
        Laurel(rank=-1)
    with pytest.raises(UserError, match="previous"):
        Laurel(previous=0)
    with pytest.raises(UserError, match="rank=1"):
        Laurel(previous=2, rank=0)
    with pytest.raises(UserError, match="weights"):
        Laurel(weights="sigmoid")
