"""The kernels of decoding against torch: few rows, attention and feed-forward of one token."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from addnorm import Transformer, schemes
from addnorm.kernels import native
from addnorm.kernels.decoding import ACTIVATIONS, Cached, attend, attend_reference, feed, feed_reference
from addnorm.kernels.few_rows import few_rows, few_rows_reference, fits
from addnorm.layers.attention import Attention, AttentionOptions
from addnorm.layers.cache import KVCache
from addnorm.layers.context import Context
from addnorm.layers.feedforward import FeedForward

# Sums in another order: a few roundings of the precision they are added up in; torch rounds to bfloat16 at every step
# on the way, the kernels once at the end.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 4e-2}
DTYPES = list(TOLERANCE)
needs_compiler = pytest.mark.skipif(native.library("decoding") is None, reason="no C++ compiler here")


def numbers(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def linears(*shapes: tuple[int, int], dtype: torch.dtype, bias: bool) -> list[tuple[Tensor, Tensor | None]]:
    found = []
    for seed, (outputs, inputs) in enumerate(shapes, start=1):
        weight = numbers(outputs, inputs, dtype=dtype, seed=seed) * inputs**-0.5
        found.append((weight, numbers(outputs, dtype=dtype, seed=-seed) if bias else None))
    return found


def agree(ours: Tensor, theirs: Tensor) -> None:
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
    torch.testing.assert_close(ours, theirs, rtol=TOLERANCE[ours.dtype], atol=TOLERANCE[ours.dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (3, 8), (16, 17), (33, 7), (512, 24), (31, 40)])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_few_rows_are_torchs_linear_map(dtype, inputs, outputs, rows, bias):
    x = numbers(rows, 1, inputs, dtype=dtype)
    ((weight, shift),) = linears((outputs, inputs), dtype=dtype, bias=bias)
    agree(few_rows(x, weight, shift), few_rows_reference(x, weight, shift))


@needs_compiler
def test_few_rows_in_bfloat16_are_rounded_once():
    x = numbers(2, 512, dtype=torch.bfloat16)
    ((weight, bias),) = linears((40, 512), dtype=torch.bfloat16, bias=True)
    exact = few_rows_reference(x.double(), weight.double(), bias.double())
    # Half a unit in the last place of bfloat16, and the float32 sum's own roundings.
    torch.testing.assert_close(few_rows(x, weight, bias).double(), exact, rtol=2**-8 * 1.01, atol=1e-6)


def test_few_rows_leave_what_has_a_gradient_to_torch():
    x, weight = numbers(1, 8, dtype=torch.float32), numbers(4, 8, dtype=torch.float32).requires_grad_()
    assert not fits(x, weight, None)
    few_rows(x, weight, None).sum().backward()
    assert weight.grad is not None
    with torch.no_grad():
        assert fits(x, weight, None) == (native.library("few_rows") is not None)
        assert not fits(x, weight[:, ::2], None) and not fits(x, weight.double(), None)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("heads", "shared", "width"), [(4, 4, 8), (4, 2, 6), (3, 1, 2), (1, 1, 66)])
@pytest.mark.parametrize("length", [1, 5, 37])
@pytest.mark.parametrize("turned", [True, False])
@pytest.mark.parametrize("rows", [1, 3])
@torch.no_grad()
def test_attention_of_one_token_is_torchs(dtype, heads, shared, width, length, turned, rows):
    d_model, long = 24, torch.float64 if dtype == torch.float64 else torch.float32
    shapes = [(heads * width, d_model), (shared * width, d_model), (shared * width, d_model), (d_model, heads * width)]
    maps = linears(*shapes, dtype=dtype, bias=turned)
    views = [numbers(rows, d_model, dtype=dtype, seed=seed) for seed in range(3)]
    frequencies = torch.rand(width // 2, dtype=long) if turned else None
    slots = [numbers(rows, shared, 40, width, dtype=dtype, seed=seed) for seed in (7, 8)]
    ours, theirs = (
        Cached(
            keys=slots[0].clone(),
            values=slots[1].clone(),
            length=length,
            frequencies=frequencies,
            position=length + 2,
        )
        for _ in range(2)
    )
    agree(attend(views, maps, ours), attend_reference(views, maps, theirs))
    for name in ("keys", "values"):
        mine, yours = getattr(ours, name), getattr(theirs, name)
        agree(mine[:, :, length - 1], yours[:, :, length - 1])
        others = [place for place in range(40) if place != length - 1]
        assert torch.equal(mine[:, :, others], yours[:, :, others])  # nothing else is written


@torch.no_grad()
def test_scores_far_apart_do_not_overflow():
    maps = linears((4, 4), (4, 4), (4, 4), (4, 4), dtype=torch.float32, bias=False)
    view = [numbers(1, 4, dtype=torch.float32)] * 3
    keys, values = 1e3 * numbers(1, 1, 9, 4, dtype=torch.float32), numbers(1, 1, 9, 4, dtype=torch.float32, seed=3)
    ours, theirs = (
        Cached(keys=keys.clone(), values=values.clone(), length=9, frequencies=None, position=0) for _ in range(2)
    )
    agree(attend(view, maps, ours), attend_reference(view, maps, theirs))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("rows", "d_model", "inner"), [(1, 3, 5), (3, 33, 17), (1, 512, 64)])
@torch.no_grad()
def test_the_feed_forward_of_one_token_is_torchs(dtype, activation, rows, d_model, inner):
    gate = [(inner, d_model)] if activation == "swiglu" else []
    maps = linears((inner, d_model), *gate, (d_model, inner), dtype=dtype, bias=rows == 1)
    x = 3 * numbers(rows, d_model, dtype=dtype)
    agree(feed(x, maps, activation), feed_reference(x, maps, activation))


def decoder(**changes: object) -> Transformer:
    shape = {"vocab_size": 17, "d_model": 16, "num_heads": 4, "num_layers": 2, "tie_embeddings": False} | changes
    return Transformer(schemes.parse("pre-norm"), **shape).double()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_kv_heads": 2, "activation": "swiglu", "bias": False},
        {"position": "learned", "activation": "gelu-tanh"},
        {"qk_norm": "rms"},
        {"attention": "sliding-window", "window": 3},
    ],
)
def test_text_is_the_same_with_and_without_the_kernels(changes):
    model, prompt = decoder(**changes), torch.arange(6).reshape(2, 3)
    fast = model.generate(prompt, 12)
    with native.switched(False):
        assert torch.equal(model.generate(prompt, 12), fast)


@needs_compiler
def test_steps_are_taken_by_the_kernels(monkeypatch):
    from addnorm.layers import one_token

    seen: list[str] = []
    for name in ("attend", "feed"):
        whole = getattr(one_token, name)
        monkeypatch.setattr(one_token, name, lambda *args, whole=whole, name=name: (seen.append(name), whole(*args))[1])
    decoder().generate(torch.arange(5)[None], 3)
    assert seen == ["attend", "feed"] * 4  # two layers, two tokens after the prompt's


@torch.no_grad()
def test_a_hook_on_a_linear_is_heard():
    layer, cache, heard = Attention(8, 2, AttentionOptions(rotary=True)).eval(), KVCache(), []
    context = Context(causal=True, cache=cache)
    layer(torch.randn(1, 3, 8), context)
    layer.v_proj.register_forward_hook(lambda *_: heard.append("v"))
    layer(torch.randn(1, 1, 8), context)
    feedforward = FeedForward(8).eval()
    feedforward.fc2.register_forward_pre_hook(lambda *_: heard.append("fc2"))
    feedforward(torch.randn(1, 1, 8))
    assert heard == ["v", "fc2"]


@torch.no_grad()
def test_weights_may_change_between_two_tokens():
    layer, context = Attention(8, 2).eval().double(), Context(causal=True, cache=KVCache())
    layer(torch.randn(1, 2, 8, dtype=torch.float64), context)
    x = torch.randn(1, 1, 8, dtype=torch.float64)
    layer(x, context)
    layer.o_proj.weight.data = torch.zeros_like(layer.o_proj.weight)
    assert torch.equal(layer(x, context)[0, 0], layer.o_proj.bias)


def test_a_cache_with_gradients_goes_through_torch():
    layer, context = Attention(8, 2).eval(), Context(causal=True, cache=KVCache())
    layer(torch.randn(1, 2, 8), context)
    layer(torch.randn(1, 1, 8), context).sum().backward()
    assert layer.k_proj.weight.grad is not None


def test_two_threads_compute_what_one_does():
    model, tokens = decoder(d_model=64, vocab_size=40), torch.arange(6)[None]
    logits, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            cache = KVCache()
            with torch.no_grad():
                model.eval()(tokens, None, cache)
                logits.append(torch.cat([model(token[None, None], None, cache) for token in tokens[0].flip(0)]))
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(*logits, rtol=1e-12, atol=1e-12)  # the prompt's products are torch's
