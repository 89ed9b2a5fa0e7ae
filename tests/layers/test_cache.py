"""The key-value cache: cached attention equals attention over all tokens at once."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from addnorm import UserError
from addnorm.layers.attention import Attention, AttentionOptions, CrossAttention
from addnorm.layers.cache import SMALLEST, KVCache
from addnorm.layers.context import Context
from oracles.ties import randomise_

WIDTH = 8
# float64; the kernels sum the same products in another order.
CLOSE = {"rtol": 0, "atol": 1e-12}


def attention(kind: type[Attention] = Attention, **options: object) -> Attention:
    layer = kind(WIDTH, 4, AttentionOptions(num_kv_heads=2, **options)).double()
    randomise_(layer)
    return layer


def vectors(tokens: int, batch: int = 3, seed: int = 1) -> Tensor:
    return torch.randn(batch, tokens, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def in_chunks(layer: Attention, x: Tensor, sizes: list[int], keep: Tensor | None = None) -> Tensor:
    cache, start, outputs = KVCache(), 0, []
    for size in sizes:
        known = None if keep is None else keep[:, : start + size]
        outputs.append(layer(x[:, start : start + size], Context(causal=True, keep=known, cache=cache)))
        start += size
    assert cache.tokens == cache.length(layer) == start
    return torch.cat(outputs, dim=1)


@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=6), padded=st.booleans(), seed=st.integers(0, 99))
@torch.no_grad()
def test_tokens_in_chunks_of_any_sizes_equal_all_at_once(sizes, padded, seed):
    layer, x = attention(rotary=True, qk_norm="rms"), vectors(sum(sizes), seed=seed)
    keep = torch.rand(x.shape[:2], generator=torch.Generator().manual_seed(seed)) > 0.3 if padded else None
    whole = layer(x, Context(causal=True, keep=keep))
    torch.testing.assert_close(in_chunks(layer, x, sizes, keep), whole, **CLOSE)


@torch.no_grad()
def test_tokens_one_by_one_equal_all_at_once_beyond_the_first_capacity():
    layer, x = attention(rotary=True), vectors(3 * SMALLEST + 5, batch=2)
    whole = layer(x, Context(causal=True))
    torch.testing.assert_close(in_chunks(layer, x, [1] * x.shape[1]), whole, **CLOSE)


@torch.no_grad()
def test_a_full_cache_doubles_so_that_tokens_are_seldom_moved():
    cache, layer, moves, place = KVCache(), attention(), 0, None
    for _ in range(1000):
        keys, _ = cache.append(layer, torch.ones(1, 2, 1, 2), torch.ones(1, 2, 1, 2))
        moves, place = moves + (keys.data_ptr() != place), keys.data_ptr()
    assert moves <= 5  # at 1, 65, 131, 263, 527 tokens


@torch.no_grad()
def test_layers_have_slots_of_their_own():
    cache, layers, x = KVCache(), [attention(), attention(qk_norm="rms")], vectors(4)
    for part in x.split(2, dim=1):
        for layer in layers:
            layer(part, Context(causal=True, cache=cache))
    last = [layer(vectors(1, seed=5), Context(causal=True, cache=cache)) for layer in layers]
    for layer, output in zip(layers, last, strict=True):
        whole = layer(torch.cat((x, vectors(1, seed=5)), dim=1), Context(causal=True))
        torch.testing.assert_close(output, whole[:, -1:], **CLOSE)


@torch.no_grad()
def test_cross_attention_computes_the_keys_of_its_memory_once():
    layer, x, memory, cache = attention(CrossAttention), vectors(4), vectors(6, seed=2), KVCache()
    calls = []
    layer.k_proj.register_forward_hook(lambda *_: calls.append(1))
    keep = torch.ones(3, 6, dtype=torch.bool)
    keep[0, 4:] = False
    whole = layer(x, Context(memory=memory, memory_keep=keep))
    calls.clear()
    parts = [layer(x[:, i : i + 1], Context(memory=memory, memory_keep=keep, cache=cache)) for i in range(4)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, **CLOSE)
    assert len(calls) == 1
    assert cache.length(layer) == 6


def test_gradients_pass_through_the_cache_as_through_one_forward():
    layer, x = attention(rotary=True), vectors(6)
    gradients = []
    for run in (lambda: layer(x, Context(causal=True)), lambda: in_chunks(layer, x, [2, 1, 3])):
        layer.zero_grad()
        run().square().sum().backward()
        gradients.append([p.grad for p in layer.parameters()])
    # float64; gradients of a few hundred, so relative.
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-10)


def test_a_cache_filled_with_gradients_can_go_on_without():
    layer, x, cache = attention(), vectors(5), KVCache()
    layer(x[:, :3], Context(causal=True, cache=cache))
    with torch.no_grad():
        last = layer(x[:, 3:], Context(causal=True, cache=cache))
        torch.testing.assert_close(last, layer(x, Context(causal=True))[:, 3:], **CLOSE)


@torch.no_grad()
def test_other_rows_or_another_dtype_are_refused():
    layer, cache = attention(), KVCache()
    layer(vectors(2), Context(causal=True, cache=cache))
    with pytest.raises(UserError, match="the cache holds 3 rows of torch.float64, 2 rows of torch.float64 came"):
        layer(vectors(1, batch=2), Context(causal=True, cache=cache))
    with pytest.raises(UserError, match="3 rows of torch.float32 came; start a new KVCache"):
        layer.float()(vectors(1).float(), Context(causal=True, cache=cache))


def test_an_empty_cache_has_no_tokens():
    assert KVCache().tokens == 0
    assert KVCache().length(attention()) == 0


KERNELS = [{}, {"rotary": True}, {"kernel": "sliding-window", "window": 3}, {"kernel": "linear"}]


@pytest.mark.parametrize("options", KERNELS, ids=str)
@pytest.mark.parametrize("before", [2, SMALLEST, SMALLEST + 1])
def test_selected_rows_go_on_as_if_they_had_been_there_from_the_start(options, before):
    layer, x, rows = attention(**options), vectors(before + 3), torch.tensor([2, 0, 0, 1])
    cache = KVCache()
    with torch.no_grad():
        layer(x[:, :before], Context(causal=True, cache=cache))
        cache.select(rows)
        steps = [layer(x[rows, i : i + 1], Context(causal=True, cache=cache)) for i in range(before, before + 3)]
        whole = layer(x[rows], Context(causal=True))
    torch.testing.assert_close(torch.cat(steps, dim=1), whole[:, before:], **CLOSE)


def test_a_layer_that_is_excepted_keeps_its_rows():
    layer, crossed, cache, x = attention(), attention(CrossAttention), KVCache(), vectors(4)
    with torch.no_grad():
        layer(x, Context(causal=True, cache=cache))
        crossed(x, Context(memory=vectors(5, seed=2), cache=cache))
    keys = {each: cache.stored(each)[0] for each in (layer, crossed)}
    cache.select(torch.tensor([1, 1, 0]), {crossed})
    assert torch.equal(cache.stored(crossed)[0], keys[crossed])
    assert torch.equal(cache.stored(layer)[0], keys[layer][[1, 1, 0]])
    assert not torch.equal(cache.stored(layer)[0], keys[layer])
