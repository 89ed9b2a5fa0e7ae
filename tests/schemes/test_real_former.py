"""RealFormer: its equation, decoding, padding, memory of earlier layers, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from addnorm import EncoderDecoder, Transformer, UserError, schemes
from addnorm.layers.cache import KVCache
from addnorm.schemes.real_former import RealFormer
from addnorm.testing.small_models import moved, projected, tokens
from inside_transcription import (
    D_HEAD,
    HEADS,
    Net,
    assert_inside_agrees,
    feedforward,
    heads_of,
    linear,
    probabilities,
    turned,
)
from transcription import norm

SHAPE = {"vocab_size": 11, "d_model": 16, "num_heads": 4, "num_layers": 3}


def equation(net: Net) -> Tensor:
    x, before = net.x, [0.0] * HEADS
    for layer in net.layers:
        p = layer.attention
        q, k, v = (heads_of(linear(x, p, name)) for name in ("q_proj", "k_proj", "v_proj"))
        before = [turned(q[h]) @ turned(k[h]).mT / D_HEAD**0.5 + before[h] for h in range(HEADS)]
        mixed = torch.cat([probabilities(before[h]) @ v[h] for h in range(HEADS)], dim=-1)
        x = norm(x + linear(mixed, p, "o_proj"), layer.attention_connection, "norm", "layer")
        x = norm(x + feedforward(x, layer.feedforward), layer.feedforward_connection, "norm", "layer")
    return x


def test_it_is_its_equation():
    assert_inside_agrees(RealFormer(), equation, attention="plain")


def test_the_fused_kernel_is_refused():
    with pytest.raises(UserError, match="attention='plain'"):
        Transformer(RealFormer(), **SHAPE)


def test_with_one_layer_it_is_the_inner_scheme():
    shape = SHAPE | {"num_layers": 1, "attention": "plain"}
    ours, inner = (Transformer(s, **shape) for s in (RealFormer(), schemes.get("post-norm")()))
    assert torch.equal(ours(tokens()), inner(tokens()))
    shape["num_layers"] = 2
    ours, inner = (Transformer(s, **shape) for s in (RealFormer(), schemes.get("post-norm")()))
    assert not torch.allclose(ours(tokens()), inner(tokens()))


def test_encoder_and_decoder_and_cross_attention_sum_up_their_own():
    model = EncoderDecoder(RealFormer(), attention="plain", **SHAPE).double().eval()
    source, target = tokens(2, 5), tokens(2, 4)
    keep = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    logits = model(source, target, keep)
    memory, cache = model.encode(source, keep), KVCache()
    steps = [model.decode(target[:, t : t + 1], memory, memory_keep=keep, cache=cache) for t in range(4)]
    # 1e-10: float64 sums of a few terms in another order.
    torch.testing.assert_close(torch.cat(steps, dim=1), logits, rtol=1e-10, atol=1e-10)
    source[1, 3:] = (source[1, 3:] + 1) % 11
    assert torch.equal(model(source, target, keep), logits)


def test_a_row_of_padding_alone_has_finite_gradients():
    model = moved(RealFormer()).train()
    keep = torch.ones(3, 6, dtype=torch.bool)
    keep[1] = False
    projected(model(tokens(), keep)).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_recomputation_finds_the_scores_of_the_layer_before_not_of_the_last():
    results = []
    for checkpointing in (False, True):
        model = moved(RealFormer(), num_layers=4).train()
        model.stack.checkpointing = checkpointing
        projected(model(tokens())).backward()
        results.append([p.grad for p in model.parameters()])
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))


def test_two_that_change_the_scores_are_refused():
    with pytest.raises(UserError, match="changes the scores too"):
        RealFormer(inner=RealFormer())
