"""The encoder-decoder: padding of the memory, causality of the target, cached decoding."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from addnorm import EncoderDecoder, UserError
from addnorm.layers.cache import KVCache
from models.bodies import VOCAB, ids, left_padded, made

CLOSE = {"rtol": 0, "atol": 1e-11}  # float64; kernels sum the same products in another order
POSITIONS = ["rotary", "learned", "sinusoidal", "none"]
ARRANGEMENTS = ["sequential", "parallel", "composed"]


def model(**changes: object) -> EncoderDecoder:
    return made(EncoderDecoder, **changes)


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_the_future_of_the_target_does_not_leak(arrangement):
    net, source, target = model(arrangement=arrangement), ids(3, 5, 2), ids()
    other = target.clone()
    other[:, -1] = (other[:, -1] + 1) % VOCAB
    assert torch.equal(net(source, target)[:, :-1], net(source, other)[:, :-1])
    assert not torch.equal(net(source, target)[:, -1], net(source, other)[:, -1])


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_every_source_token_reaches_every_target_token(arrangement):
    net, source, target = model(arrangement=arrangement), ids(3, 5, 2), ids()
    before = net(source, target)
    for token in range(5):
        other = source.clone()
        other[:, token] = (other[:, token] + 1) % VOCAB
        assert (net(other, target) != before).any(-1).all()


@pytest.mark.parametrize("position", POSITIONS)
def test_padded_sources_give_what_they_give_alone(position):
    net, target = model(position=position), ids()
    _, source, keep = left_padded([6, 4, 1])
    for side in (lambda t: t, lambda t: t.flip(1)):
        padded, real = side(source), side(keep)
        logits = net(padded, target, real)
        for i in range(3):
            alone = net(padded[i : i + 1, real[i]], target[i : i + 1])[0]
            torch.testing.assert_close(logits[i], alone, **CLOSE)


@pytest.mark.parametrize("position", POSITIONS)
def test_padded_targets_give_what_they_give_alone(position):
    net, source = model(position=position), ids(3, 5, 2)
    _, target, keep = left_padded([6, 4, 1])
    logits = net(source, target, target_keep=keep)
    for i in range(3):
        alone = net(source[i : i + 1], target[i : i + 1, keep[i]])[0]
        torch.testing.assert_close(logits[i, keep[i]], alone, **CLOSE)


def test_a_source_of_padding_only_gives_no_nan():
    net, keep = model(), torch.ones(3, 5, dtype=torch.bool)
    keep[1] = False
    logits = net(ids(3, 5, 2), ids(), keep)
    logits.logsumexp(-1).sum().backward()
    assert logits.isfinite().all()
    assert all(p.grad.isfinite().all() for p in net.parameters())


@settings(max_examples=20)
@given(
    sizes=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    position=st.sampled_from(POSITIONS),
    arrangement=st.sampled_from(ARRANGEMENTS),
    padded=st.booleans(),
)
@torch.no_grad()
def test_cached_decoding_equals_the_full_forward(sizes, position, arrangement, padded):
    net, target = model(position=position, arrangement=arrangement, num_kv_heads=2), ids(3, sum(sizes))
    _, source, keep = left_padded([6, 4, 1])
    keep = keep if padded else None
    memory, cache, parts = net.encode(source, keep), KVCache(), []
    for part in target.split(sizes, dim=1):
        parts.append(net.decode(part, memory, memory_keep=keep, cache=cache))
    torch.testing.assert_close(torch.cat(parts, dim=1), net(source, target, keep), **CLOSE)
    assert cache.tokens == sum(sizes)


@torch.no_grad()
def test_cached_decoding_of_padded_targets_equals_the_full_forward():
    net, source = model(position="learned"), ids(3, 5, 2)
    _, target, keep = left_padded([6, 4, 2])
    memory, cache = net.encode(source), KVCache()
    parts = [net.decode(target[:, :4], memory, target_keep=keep[:, :4], cache=cache)]
    parts += [net.decode(target[:, i : i + 1], memory, target_keep=keep[:, : i + 1], cache=cache) for i in (4, 5)]
    whole = net(source, target, target_keep=keep)
    torch.testing.assert_close(torch.cat(parts, dim=1)[keep], whole[keep], **CLOSE)


def test_each_site_knows_both_depths():
    net = model(encoder_layers=3)
    assert len(net.encoder.blocks) == 6
    assert len(net.decoder.blocks) == 6
    assert {(s.side, s.num_layers, s.other_layers) for s in net.encoder.sites} == {("encoder", 3, 2)}
    assert {(s.side, s.num_layers, s.other_layers) for s in net.decoder.sites} == {("decoder", 2, 3)}
    assert [s.kind for s in net.decoder.sites] == ["attention", "cross-attention", "feedforward"] * 2


def test_the_embedding_serves_source_target_and_a_tied_head():
    assert sum("embedding" in name or "head" in name for name, _ in model().named_parameters()) == 1
    untied = model(tie_embeddings=False)
    assert [name for name, _ in untied.named_parameters() if "head" in name] == ["head.own.weight"]


def test_zero_encoder_layers_are_refused():
    with pytest.raises(UserError, match="encoder_layers=0 is not allowed; use 1 or more."):
        model(encoder_layers=0)


def test_a_memory_of_other_rows_is_refused():
    net = model()
    with pytest.raises(UserError, match="cross-attention got 3 rows of tokens and 2 rows of memory"):
        net.decode(ids(), net.encode(ids(2)))
