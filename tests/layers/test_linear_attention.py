"""Linear attention: its quadratic definition, at a cost that grows with the tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from addnorm import UserError
from addnorm.layers.attention import Attention, AttentionOptions, CrossAttention
from addnorm.layers.cache import KVCache
from addnorm.layers.context import Context
from addnorm.layers.linear_attention import CHUNK, positive
from addnorm.layers.position import Rotary
from addnorm.probes.flops import flops
from addnorm.probes.memory import activation_bytes
from oracles.ties import randomise_

WIDTH, HEADS = 8, 4
# float64; sums of a few hundred products in another order, over a denominator that may be small.
CLOSE = {"rtol": 1e-9, "atol": 1e-9}


def linear(**options: Any) -> Attention:
    layer = Attention(WIDTH, HEADS, AttentionOptions(kernel="linear", **options)).double()
    randomise_(layer)
    return layer


def vectors(tokens: int, batch: int = 2, seed: int = 1) -> Tensor:
    return torch.randn(batch, tokens, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def by_definition(layer: Attention, x: Tensor, context: Context) -> Tensor:
    """`sum_j a_ij v_j / sum_j b_ij` with all tokens^2 of a and b; a from turned features, b from the features."""
    tokens = x.shape[1]

    def heads(linear: torch.nn.Linear) -> Tensor:
        split = F.linear(x, linear.weight, linear.bias).view(2, tokens, -1, WIDTH // HEADS).transpose(1, 2)
        return split.repeat_interleave(HEADS // split.shape[1], dim=1)

    query, key, value = heads(layer.q_proj), heads(layer.k_proj), heads(layer.v_proj)
    query, key = F.elu(query) + 1, F.elu(key) + 1
    turned_query, turned_key = query, key
    if layer.rotary is not None:
        turned_query, turned_key = Rotary(WIDTH // HEADS)(query, key, torch.arange(tokens))
    allowed = torch.ones(tokens, tokens, dtype=torch.bool)
    allowed = (allowed.tril() if context.causal else allowed)[None, None]
    if context.keep is not None:
        allowed = allowed & context.keep[:, None, None]
    numerator = (turned_query @ turned_key.mT * allowed) @ value
    denominator = (query @ key.mT * allowed).sum(-1, keepdim=True)
    mixed = torch.where(denominator > 0, numerator / denominator.masked_fill(denominator == 0, 1), 0.0)
    return F.linear(mixed.transpose(1, 2).flatten(2), layer.o_proj.weight, layer.o_proj.bias)


def padded(tokens: int) -> Tensor:
    """The first row padded on the left, the second all padding."""
    keep = torch.ones(2, tokens, dtype=torch.bool)
    keep[0, : tokens // 2], keep[1] = False, False
    return keep


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "both sides"])
@pytest.mark.parametrize("keep", [False, True], ids=["whole", "padded"])
@pytest.mark.parametrize("kv_heads", [HEADS, 2, 1])
@pytest.mark.parametrize("rotary", [False, True], ids=["no positions", "rotary"])
def test_it_equals_its_quadratic_definition_in_value_and_gradient(rotary, kv_heads, keep, causal):
    layer = linear(rotary=rotary, num_kv_heads=kv_heads)
    for tokens in (1, 5, CHUNK, CHUNK + 1, 3 * CHUNK + 7):
        context, found = Context(causal=causal, keep=padded(tokens) if keep else None), []
        for run in (layer, lambda x, context: by_definition(layer, x, context)):
            x = vectors(tokens).requires_grad_()
            layer.zero_grad(set_to_none=True)
            output = run(x, context)
            (output * vectors(tokens, seed=7)).sum().backward()
            found.append([output.detach(), x.grad, *(p.grad for p in layer.parameters())])
        for ours, theirs in zip(*found, strict=True):
            torch.testing.assert_close(ours, theirs, **CLOSE)


def test_without_positions_it_is_a_mixture_with_weights_of_one_in_all():
    layer = linear()
    with torch.no_grad():
        layer.v_proj.weight.zero_()
        layer.v_proj.bias.fill_(1.0)
        layer.o_proj.weight.copy_(torch.eye(WIDTH))
        layer.o_proj.bias.zero_()
    torch.testing.assert_close(layer(vectors(90), Context(causal=True)), torch.ones(2, 90, WIDTH).double(), **CLOSE)


def test_rotary_positions_are_relative():
    """What a pair of tokens has to do with each other depends on their distance, as RoFormer's section 3.3 says."""
    layer, x = linear(rotary=True), vectors(20)
    there = layer(x, Context(causal=True, positions=torch.arange(20) + 1000))
    torch.testing.assert_close(there, layer(x, Context(causal=True)), rtol=1e-8, atol=1e-8)  # angles of 1000 radians
    apart = layer(x, Context(causal=True, positions=torch.arange(20) * 2))
    assert (apart - there).abs().max() > 1e-3


@given(
    sizes=st.lists(st.integers(1, 90), min_size=1, max_size=6),
    kv_heads=st.sampled_from([1, 2, 4]),
    pad=st.booleans(),
    seed=st.integers(0, 99),
)
@torch.no_grad()
def test_tokens_in_chunks_through_the_cache_equal_all_at_once(sizes, kv_heads, pad, seed):
    layer, x, cache, start, outputs = linear(rotary=True, num_kv_heads=kv_heads), vectors(sum(sizes)), KVCache(), 0, []
    keep = torch.rand(x.shape[:2], generator=torch.Generator().manual_seed(seed)) > 0.3 if pad else None
    for part in x.split(sizes, dim=1):
        start += part.shape[1]
        context = Context(causal=True, keep=keep if keep is None else keep[:, :start], cache=cache)
        outputs.append(layer(part, context))
        assert cache.length(layer) == cache.tokens == start
        # Two rows, heads of keys, a matrix of 2 x 2 and a vector of 2 of 8 bytes: however many tokens there were.
        assert cache.bytes == 2 * kv_heads * (2 * 2 + 2) * 8
    torch.testing.assert_close(torch.cat(outputs, dim=1), layer(x, Context(causal=True, keep=keep)), **CLOSE)


def test_gradients_pass_through_the_cache_as_through_one_forward():
    layer, x, cache = linear(rotary=True), vectors(9), KVCache()
    torch.cat([layer(part, Context(causal=True, cache=cache)) for part in x.split(3, dim=1)], dim=1).sum().backward()
    through_cache = [p.grad for p in layer.parameters()]
    layer.zero_grad(set_to_none=True)
    layer(x, Context(causal=True)).sum().backward()
    torch.testing.assert_close(through_cache, [p.grad for p in layer.parameters()], **CLOSE)


def test_the_future_does_not_leak_by_a_bit():
    layer, x = linear(rotary=True).float(), vectors(200).float()
    other = x.clone()
    other[:, 100] += 1
    changed = (layer(x, Context(causal=True)) != layer(other, Context(causal=True))).any(dim=(0, 2))
    assert changed.nonzero().flatten().tolist() == list(range(100, 200))


def test_a_fully_padded_row_gives_the_bias_and_no_nan():
    layer, x = linear(rotary=True), vectors(150).requires_grad_()
    output = layer(x, Context(causal=True, keep=padded(150)))
    torch.testing.assert_close(output[1], layer.o_proj.bias.expand(150, WIDTH), **CLOSE)
    output.square().sum().backward()
    assert all(tensor.isfinite().all() for tensor in (x.grad, *(p.grad for p in layer.parameters())))


@pytest.mark.parametrize("size", [1e2, 1e4])
def test_features_that_vanish_give_no_nan(size):
    layer, x = linear(rotary=True).float(), (vectors(20).float() * size).requires_grad_()
    output = layer(x, Context(causal=True))
    output.sum().backward()
    assert output.isfinite().all()
    assert all(tensor.isfinite().all() for tensor in (x.grad, *(p.grad for p in layer.parameters())))


def test_the_features_are_elu_plus_one_and_stay_positive():
    x = torch.linspace(-3, 3, 101, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(positive(x), F.elu(x) + 1, rtol=0, atol=1e-15)
    assert torch.autograd.gradcheck(positive, (x,))
    assert positive(torch.tensor(-60.0)) > 0, "elu(x) + 1 rounds to 0 there in float32"


@pytest.mark.parametrize("causal", [True, False])
def test_work_and_memory_grow_with_the_tokens_alone(causal):
    layer = linear().float()

    def loss(layer: Attention, x: Tensor) -> Tensor:
        return layer(x, Context(causal=causal)).sum()

    for cost in (flops, activation_bytes):
        one, two, four = (cost(layer, vectors(tokens, batch=1).float(), loss) for tokens in (512, 1024, 2048))
        assert two > one
        # To the last product and byte; a square would make it 4 times.
        assert four - two == 2 * (two - one)


@pytest.mark.parametrize("autocast", [False, True])
def test_sums_over_tokens_are_float32_in_bfloat16(autocast):
    """1 + 1 + ... in bfloat16 stops at 256: the mean of 2000 ones would be far from one."""
    layer, x = linear(bias=False).float(), torch.ones(1, 2000, WIDTH)
    exact = layer(x, Context(causal=True))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        low = layer(x, Context(causal=True)) if autocast else layer.bfloat16()(x.bfloat16(), Context(causal=True))
    assert low.dtype == torch.bfloat16
    # 8 bits in projections and mixture.
    torch.testing.assert_close(low.float(), exact, rtol=0.03, atol=0.05)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: linear(dropout=0.1), "linear attention holds no weights to drop; give 0 and use dropout"),
        (lambda: linear(window=4), "window=4 has no meaning for linear attention"),
        (lambda: linear()(vectors(4), Context(mask=torch.ones(4, 4) > 0)), "linear attention takes no attention mask"),
        (lambda: linear()(vectors(4), Context(keep=torch.ones(2, 5) > 0)), "(batch, tokens) = (2, 4)"),
        (lambda: CrossAttention(8, 4, AttentionOptions(kernel="linear")), "cross-attention is always full"),
    ],
)
def test_bad_input_is_told_in_one_line(make, told):
    with pytest.raises(UserError) as error:
        make()
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@torch.no_grad()
def test_other_rows_in_the_cache_are_refused():
    layer, cache = linear(), KVCache()
    layer(vectors(2), Context(causal=True, cache=cache))
    with pytest.raises(UserError, match="2 rows of torch.float64, 3 rows of torch.float64 came"):
        layer(vectors(1, batch=3), Context(causal=True, cache=cache))
