"""The encoder: every token sees every other, and padding is not there."""

from __future__ import annotations

import pytest
import torch

from addnorm import Encoder, Transformer, UserError
from addnorm.layers.context import Context
from models.bodies import VOCAB, ids, left_padded, made

CLOSE = {"rtol": 0, "atol": 1e-11}  # float64; kernels sum the same products in another order
POSITIONS = ["rotary", "learned", "sinusoidal", "none"]


def test_every_token_sees_every_other():
    encoder, tokens = made(Encoder), ids()
    before = encoder(tokens)
    for token in range(7):
        other = tokens.clone()
        other[:, token] = (other[:, token] + 1) % VOCAB
        assert (encoder(other) != before).any(-1).all()


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("arrangement", ["sequential", "parallel", "composed"])
def test_padded_rows_get_what_they_get_alone_on_either_side(position, arrangement):
    encoder = made(Encoder, position=position, arrangement=arrangement)
    rows, tokens, keep = left_padded([7, 4, 1])
    for side in (lambda t: t, lambda t: t.flip(1)):
        padded, real = side(tokens), side(keep)
        hidden = encoder(padded, real)
        for i in range(3):
            torch.testing.assert_close(hidden[i, real[i]], encoder(padded[i : i + 1, real[i]])[0], **CLOSE)
    assert [len(row) for row in rows] == keep.sum(1).tolist()


def test_without_positions_it_does_not_see_order():
    encoder, order = made(Encoder, position="none"), torch.randperm(7)
    torch.testing.assert_close(encoder(ids()[:, order]), encoder(ids())[:, order], **CLOSE)


@pytest.mark.parametrize("position", ["rotary", "learned", "sinusoidal"])
def test_with_positions_it_sees_order(position):
    encoder = made(Encoder, position=position)
    assert not torch.allclose(encoder(ids().flip(1)), encoder(ids()).flip(1))


def test_it_is_its_embedding_through_its_stack():
    encoder = made(Encoder)
    expected = encoder.stack(encoder.embedding.tokens(ids()), Context())
    torch.testing.assert_close(encoder(ids()), expected, **CLOSE)
    assert {site.side for site in encoder.stack.sites} == {"encoder"}


def test_segments_add_their_vector_and_count_as_the_first_where_none_are_given():
    encoder, tokens = made(Encoder, segments=2), ids()
    segments = (torch.arange(7) > 3).long().expand(3, -1)
    embedded = encoder.embedding.tokens(tokens) + encoder.embedding.segments.weight[segments]
    torch.testing.assert_close(encoder(tokens, segments=segments), encoder.stack(embedded, Context()), **CLOSE)
    assert torch.equal(encoder(tokens), encoder(tokens, segments=torch.zeros_like(tokens)))
    assert not torch.allclose(encoder(tokens), encoder(tokens, segments=segments))


def test_segments_that_do_not_fit_are_told():
    with pytest.raises(UserError, match="segments came, but the model has none; build it with segments=2"):
        made(Encoder)(ids(), segments=ids())
    with pytest.raises(UserError, match=r"segments have shape \(3, 6\).*the tokens' shape \(3, 7\)"):
        made(Encoder, segments=2)(ids(), segments=ids()[:, 1:])
    with pytest.raises(UserError, match="integer ids"):
        made(Encoder, segments=2)(ids(), segments=torch.zeros(3, 7))
    with pytest.raises(UserError, match="segments=2: only an encoder tells segments apart"):
        made(Transformer, segments=2)
    for value in (-1, 1.5):
        with pytest.raises(UserError, match=f"segments={value} is not allowed"):
            made(Encoder, segments=value)
