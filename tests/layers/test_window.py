"""Sliding-window attention: full attention under a band, without its cost."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from addnorm import UserError
from addnorm.layers.attention import Attention, AttentionOptions, CrossAttention
from addnorm.layers.cache import KVCache
from addnorm.layers.context import Context
from addnorm.layers.window import SMALLEST
from addnorm.probes.flops import flops
from addnorm.probes.memory import activation_bytes
from oracles.ties import randomise_

WIDTH = 8
# float64; the same sums of a few hundred products in another order.
CLOSE = {"rtol": 0, "atol": 1e-11}
LENGTHS = (1, 7, SMALLEST, SMALLEST + 1, 3 * SMALLEST, 3 * SMALLEST + 5)


def near(window: int, **options: Any) -> Attention:
    chosen = AttentionOptions(num_kv_heads=2, rotary=True, kernel="sliding-window", window=window, **options)
    layer = Attention(WIDTH, 4, chosen).double()
    randomise_(layer)
    return layer


def full_like(layer: Attention) -> Attention:
    full = Attention(WIDTH, 4, AttentionOptions(num_kv_heads=2, rotary=True, kernel="plain")).double()
    full.load_state_dict(layer.state_dict())
    return full


def vectors(tokens: int, batch: int = 2, seed: int = 1) -> Tensor:
    return torch.randn(batch, tokens, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def band(tokens: int, window: int, causal: bool) -> Tensor:
    """Written with loops, from the words of the option."""
    before, after = (window - 1, 0) if causal else (window // 2, window // 2)
    rows = [[-after <= query - key <= before for key in range(tokens)] for query in range(tokens)]
    return torch.tensor(rows)


def padded(tokens: int) -> Tensor:
    """The first row padded on the left, the second all padding."""
    keep = torch.ones(2, tokens, dtype=torch.bool)
    keep[0, : tokens // 2], keep[1] = False, False
    return keep


def outcome(layer: Attention, x: Tensor, context: Context) -> list[Tensor]:
    x = x.clone().requires_grad_()
    layer.zero_grad()
    output = layer(x, context)
    (output * vectors(x.shape[1], seed=7)).sum().backward()
    return [output.detach(), x.grad, *(p.grad for p in layer.parameters())]


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "both sides"])
@pytest.mark.parametrize("keep", [False, True], ids=["whole", "padded"])
@pytest.mark.parametrize("window", [1, 2, 5, SMALLEST, SMALLEST + 2, 10 * SMALLEST])
def test_it_equals_full_attention_under_a_band_in_value_and_gradient(window, keep, causal):
    layer = near(window)
    for tokens in LENGTHS:
        real = padded(tokens) if keep else None
        ours = outcome(layer, vectors(tokens), Context(causal=causal, keep=real))
        masked = Context(mask=band(tokens, window, causal), keep=real)
        theirs = outcome(full_like(layer), vectors(tokens), masked)
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)  # gradients are sums over all tokens


@given(
    sizes=st.lists(st.integers(1, 90), min_size=1, max_size=6),
    window=st.integers(1, 80),
    pad=st.booleans(),
    seed=st.integers(0, 99),
)
@torch.no_grad()
def test_tokens_in_chunks_through_the_cache_equal_all_at_once(sizes, window, pad, seed):
    layer, x, cache, start, outputs = near(window), vectors(sum(sizes), seed=seed), KVCache(), 0, []
    keep = torch.rand(x.shape[:2], generator=torch.Generator().manual_seed(seed)) > 0.3 if pad else None
    for part in x.split(sizes, dim=1):
        start += part.shape[1]
        context = Context(causal=True, keep=keep if keep is None else keep[:, :start], cache=cache)
        outputs.append(layer(part, context))
        assert cache.length(layer) == cache.tokens == start
    torch.testing.assert_close(torch.cat(outputs, dim=1), layer(x, Context(causal=True, keep=keep)), **CLOSE)


@torch.no_grad()
def test_the_cache_holds_the_window_and_no_more():
    layer, cache, window = near(5), KVCache(), 5
    for part in vectors(300).split([200, *[1] * 100], dim=1):
        layer(part, Context(causal=True, cache=cache))
        keys, values = cache.stored(layer)
        # Two rows, two heads of keys and two of values, a width of 2, 8 bytes.
        assert cache.bytes == 2 * 2 * 2 * window * 2 * 8
        assert keys.untyped_storage().nbytes() == keys.nbytes, "a slice of something larger"
    assert keys.shape[2] == values.shape[2] == window


def test_gradients_pass_through_the_cache_as_through_one_forward():
    layer, x, cache = near(4), vectors(9), KVCache()
    torch.cat([layer(part, Context(causal=True, cache=cache)) for part in x.split(3, dim=1)], dim=1).sum().backward()
    through_cache = [p.grad for p in layer.parameters()]
    layer.zero_grad(set_to_none=True)
    layer(x, Context(causal=True)).sum().backward()
    torch.testing.assert_close(through_cache, [p.grad for p in layer.parameters()], rtol=1e-10, atol=1e-10)


def test_neither_the_future_nor_what_is_beyond_the_window_leaks():
    layer, x, window = near(5), vectors(200), 5
    other = x.clone()
    other[:, 100] += 1
    changed = (layer(x, Context(causal=True)) != layer(other, Context(causal=True))).any(dim=(0, 2))
    assert changed.nonzero().flatten().tolist() == list(range(100, 100 + window))
    changed = (layer(x) != layer(other)).any(dim=(0, 2))
    assert changed.nonzero().flatten().tolist() == list(range(98, 103))


def test_a_fully_padded_row_gives_the_bias_and_no_nan():
    layer, tokens = near(5), 150
    output, *gradients = outcome(layer, vectors(tokens), Context(causal=True, keep=padded(tokens)))
    torch.testing.assert_close(output[1], layer.o_proj.bias.detach().expand(tokens, WIDTH), **CLOSE)
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_work_and_memory_grow_with_the_tokens_alone(causal, dropout):
    layer = near(32, dropout=dropout).float()

    def loss(layer: Attention, x: Tensor) -> Tensor:
        return layer(x, Context(causal=causal)).sum()

    for cost in (flops, activation_bytes):
        one, two, four = (cost(layer, vectors(tokens, batch=1).float(), loss) for tokens in (1024, 2048, 4096))
        assert two > one
        # To the last product and byte; a square would make it 4 times.
        assert four - two == 2 * (two - one)


def test_attention_dropout_keeps_the_mean():
    tokens, p = 2000, 0.3
    layer = Attention(4, 1, AttentionOptions(dropout=p, bias=False, kernel="sliding-window", window=50))
    with torch.no_grad():
        for linear, weight in zip(
            (layer.q_proj, layer.k_proj, layer.v_proj, layer.o_proj), (0.0, 0.0, 1.0, 1.0), strict=True
        ):
            linear.weight.copy_(weight * torch.eye(4))
    torch.manual_seed(0)
    output = layer(torch.ones(1, tokens, 4), Context(causal=True))[0, 49:, 0]
    # Each output is the mean of 50 draws of 1 / (1 - p) with probability 1 - p; five standard errors of the mean.
    variance = p / (1 - p) / 50
    assert abs(output.mean() - 1) < 5 * (variance / len(output)) ** 0.5
    assert 0.8 < output.var() / variance < 1.2  # a variance over 1951 draws has a standard error of 3 %
    evaluated = layer.eval()(torch.ones(1, tokens, 4), Context(causal=True))
    torch.testing.assert_close(evaluated, torch.ones(1, tokens, 4))


def test_bfloat16_stays_bfloat16():
    layer, x = near(5), vectors(150)
    low = layer.bfloat16()(x.bfloat16(), Context(causal=True))
    assert low.dtype == torch.bfloat16
    # 8 bits in x, projections and mixture.
    torch.testing.assert_close(low.double(), layer.double()(x, Context(causal=True)), rtol=0.05, atol=0.15)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: AttentionOptions(kernel="sliding-window"), "needs a window"),
        (lambda: AttentionOptions(window=4), "window=4 has no meaning for fused attention"),
        (lambda: near(0), "window=0 is not allowed; use 1 or more."),
        (lambda: near(2.5), "window=2.5 is not allowed; use a whole number from 1."),
        (lambda: near(3)(vectors(4), Context(mask=band(4, 3, True))), "takes no attention mask"),
        (lambda: near(3)(vectors(4), Context(keep=torch.ones(2, 5) > 0)), "(batch, tokens) = (2, 4)"),
        (
            lambda: CrossAttention(8, 4, AttentionOptions(kernel="sliding-window", window=3)),
            "cross-attention is always full; kernel='sliding-window' came, give 'fused' or 'plain'.",
        ),
    ],
)
def test_bad_input_is_told_in_one_line(make, told):
    with pytest.raises(UserError) as error:
        make()
    assert told in str(error.value)
    assert "\n" not in str(error.value)
