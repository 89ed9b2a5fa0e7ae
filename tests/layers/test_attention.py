"""Multi-head attention against torch's own, and what its options mean."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from addnorm import UserError
from addnorm.layers.attention import Attention, AttentionOptions, CrossAttention
from addnorm.layers.context import Context
from oracles.ties import Pair, differences, randomise_, tied, tied_fused

BATCH, TOKENS, WIDTH, HEADS = 3, 5, 12, 3
# float64: a sum of a few dozen products, so 1e-12 leaves a factor of a thousand.
CLOSE = {"rtol": 0, "atol": 1e-12}


def attention(options: AttentionOptions | None = None, kind: type[Attention] = Attention) -> Attention:
    layer = kind(WIDTH, HEADS, options).double()
    randomise_(layer)
    return layer


def vectors(tokens: int = TOKENS, batch: int = BATCH, seed: int = 1) -> Tensor:
    return torch.randn(batch, tokens, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def some_mask(*shape: int, seed: int = 2) -> Tensor:
    """A random boolean mask in which every query may attend to something."""
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) > 0.4
    mask[..., 0] = True
    return mask


def causal_mask() -> Tensor:
    return torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril()


def padding_mask() -> Tensor:
    keep = torch.ones(BATCH, TOKENS, dtype=torch.bool)
    keep[0, 3:], keep[1, 4:] = False, False
    return keep


def against_torch(ours: Attention, context: Context, *inputs: Tensor, **theirs_context: object) -> None:
    """Our output and gradients equal those of torch's multi-head attention with our weights."""
    theirs = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, dtype=torch.float64)
    pair = Pair(
        ours=ours,
        theirs=theirs,
        ties=tied_fused((ours.q_proj, ours.k_proj, ours.v_proj), theirs.in_proj_weight, theirs.in_proj_bias)
        + tied(ours.o_proj, theirs.out_proj),
        inputs=inputs,
        run_ours=lambda x, memory=None: ours(x, context if memory is None else replaced(context, memory)),
        run_theirs=lambda x, memory=None: theirs(
            x, *(2 * (x if memory is None else memory,)), need_weights=False, **theirs_context
        )[0],
    )
    found = differences(pair)
    assert found.value < 1e-12
    assert found.gradient < 1e-12


def replaced(context: Context, memory: Tensor) -> Context:
    return Context(memory=memory, memory_mask=context.memory_mask, memory_keep=context.memory_keep)


def test_it_equals_torch_without_a_mask():
    against_torch(attention(), Context(), vectors())


def test_it_equals_torch_when_causal():
    against_torch(attention(), Context(causal=True), vectors(), attn_mask=~causal_mask())


def test_it_equals_torch_with_padding():
    against_torch(attention(), Context(keep=padding_mask()), vectors(), key_padding_mask=~padding_mask())


def test_it_equals_torch_when_causal_with_padding():
    context = Context(causal=True, keep=padding_mask())
    against_torch(attention(), context, vectors(), attn_mask=~causal_mask(), key_padding_mask=~padding_mask())


def test_it_equals_torch_with_a_boolean_mask_of_two_dimensions():
    mask = some_mask(TOKENS, TOKENS)
    against_torch(attention(), Context(mask=mask), vectors(), attn_mask=~mask)


def test_it_equals_torch_with_a_boolean_mask_of_three_dimensions():
    mask = some_mask(BATCH, TOKENS, TOKENS)
    against_torch(attention(), Context(mask=mask), vectors(), attn_mask=~mask.repeat_interleave(HEADS, 0))


def test_it_equals_torch_with_a_boolean_mask_of_four_dimensions():
    mask = some_mask(BATCH, HEADS, TOKENS, TOKENS)
    against_torch(attention(), Context(mask=mask), vectors(), attn_mask=~mask.flatten(0, 1))


@pytest.mark.parametrize("shape", [(), (BATCH,), (BATCH, HEADS)], ids=["2d", "3d", "4d"])
def test_it_equals_torch_with_an_additive_mask(shape):
    mask = torch.randn(*shape, TOKENS, TOKENS, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    mask = mask.masked_fill(~some_mask(*shape, TOKENS, TOKENS), float("-inf"))
    whole = mask.view(shape + (1,) * (2 - len(shape)) + mask.shape[-2:]).expand(BATCH, HEADS, TOKENS, TOKENS)
    against_torch(attention(), Context(mask=mask), vectors(), attn_mask=whole.flatten(0, 1))


def test_it_equals_torch_with_all_masks_at_once():
    mask, keep = some_mask(BATCH, TOKENS, TOKENS), padding_mask()
    whole = (mask & causal_mask() & keep[:, None]).repeat_interleave(HEADS, 0)
    context = Context(causal=True, mask=mask, keep=keep)
    against_torch(attention(), context, vectors(), attn_mask=~whole)


def test_an_additive_mask_joins_causality_and_padding():
    mask = torch.randn(TOKENS, TOKENS, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    whole = torch.where(causal_mask() & padding_mask()[:, None], mask, float("-inf")).repeat_interleave(HEADS, 0)
    context = Context(causal=True, mask=mask, keep=padding_mask())
    against_torch(attention(), context, vectors(), attn_mask=whole)


def test_a_learned_additive_mask_gets_its_gradient():
    layer, bias = attention(), torch.zeros(HEADS, TOKENS, TOKENS, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda b: layer(vectors(), Context(mask=b[None], causal=True)), (bias,))


def test_cross_attention_equals_torch():
    against_torch(attention(kind=CrossAttention), Context(), vectors(), vectors(7, seed=4))


def test_cross_attention_equals_torch_with_padded_memory():
    keep = torch.ones(BATCH, 7, dtype=torch.bool)
    keep[1, 2:] = False
    context = Context(memory_keep=keep)
    against_torch(attention(kind=CrossAttention), context, vectors(), vectors(7, seed=4), key_padding_mask=~keep)


@pytest.mark.parametrize("additive", [False, True])
def test_cross_attention_equals_torch_with_a_mask(additive):
    mask = some_mask(TOKENS, 7)
    theirs = ~mask
    if additive:
        mask = theirs = torch.zeros(TOKENS, 7, dtype=torch.float64).masked_fill(~mask, float("-inf"))
    context = Context(memory_mask=mask)
    against_torch(attention(kind=CrossAttention), context, vectors(), vectors(7, seed=4), attn_mask=theirs)


def test_cross_attention_ignores_the_mask_of_self_attention():
    layer, memory = attention(kind=CrossAttention), vectors(7, seed=4)
    masked = layer(vectors(), Context(memory=memory, causal=True, mask=causal_mask(), keep=padding_mask()))
    torch.testing.assert_close(masked, layer(vectors(), Context(memory=memory)), **CLOSE)


def nothing_allowed(kind: str) -> Context:
    """A context in which the second token of every row may attend to nothing."""
    allowed = torch.ones(TOKENS, TOKENS, dtype=torch.bool)
    allowed[1] = False
    if kind == "boolean":
        return Context(mask=allowed)
    return Context(mask=torch.zeros(TOKENS, TOKENS, dtype=torch.float64).masked_fill(~allowed, float("-inf")))


@pytest.mark.parametrize("kind", ["boolean", "additive"])
@pytest.mark.parametrize("kv_heads", [HEADS, 1])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_token_that_may_attend_to_nothing_gets_zeros_and_no_nan(kind, kv_heads, dropout):
    layer = attention(AttentionOptions(num_kv_heads=kv_heads, dropout=dropout))
    x = vectors().requires_grad_()
    output = layer(x, nothing_allowed(kind))
    # A mixture of zeros leaves the output projection's bias.
    torch.testing.assert_close(output[:, 1], layer.o_proj.bias.expand(BATCH, WIDTH), **CLOSE)
    output.square().sum().backward()
    for gradient in (x.grad, *(p.grad for p in layer.parameters())):
        assert gradient.isfinite().all()
    assert output.isfinite().all()


def test_left_padding_gives_no_nan():
    layer, keep = attention(), torch.ones(BATCH, TOKENS, dtype=torch.bool)
    keep[0, :2] = False  # causal: the first two queries of row 0 have nothing to attend to
    x = vectors().requires_grad_()
    output = layer(x, Context(causal=True, keep=keep))
    output[keep].square().sum().backward()
    assert output.isfinite().all()
    assert x.grad.isfinite().all()
    assert (x.grad[0, :2] == 0).all(), "padding must not be learned from"


def test_a_fully_padded_memory_gives_zeros_and_no_nan():
    layer, keep = attention(kind=CrossAttention), torch.ones(BATCH, 7, dtype=torch.bool)
    keep[2] = False
    memory = vectors(7, seed=4).requires_grad_()
    output = layer(vectors(), Context(memory=memory, memory_keep=keep))
    output.square().sum().backward()
    torch.testing.assert_close(output[2], layer.o_proj.bias.expand(TOKENS, WIDTH), **CLOSE)
    assert (memory.grad[2] == 0).all()
    assert memory.grad.isfinite().all()


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_grouped_query_heads_equal_repeated_heads(kv_heads):
    grouped = Attention(WIDTH, 4, AttentionOptions(num_kv_heads=kv_heads)).double()
    randomise_(grouped)
    full = Attention(WIDTH, 4).double()
    full.load_state_dict(grouped.state_dict() | repeated_heads(grouped, 4 // kv_heads))
    for context in (Context(), Context(causal=True), Context(causal=True, keep=padding_mask())):
        torch.testing.assert_close(grouped(vectors(), context), full(vectors(), context), **CLOSE)


def test_the_gradient_of_a_shared_head_is_the_sum_over_its_copies():
    grouped = Attention(WIDTH, 4, AttentionOptions(num_kv_heads=2)).double()
    randomise_(grouped)
    full = Attention(WIDTH, 4).double()
    full.load_state_dict(grouped.state_dict() | repeated_heads(grouped, 2))
    for layer in (grouped, full):
        layer(vectors(), Context(causal=True, keep=padding_mask())).square().sum().backward()
    for shared, copies in ((grouped.k_proj, full.k_proj), (grouped.v_proj, full.v_proj)):
        assert shared.weight.grad is not None
        assert copies.weight.grad is not None
        summed = copies.weight.grad.unflatten(0, (2, 2, grouped.d_head)).sum(1).flatten(0, 1)
        torch.testing.assert_close(shared.weight.grad, summed, rtol=1e-10, atol=1e-10)  # sums over all tokens


def repeated_heads(grouped: Attention, times: int) -> dict[str, Tensor]:
    return {
        f"{name}.{part}": tensor.unflatten(0, (-1, grouped.d_head)).repeat_interleave(times, 0).flatten(0, 1)
        for name, linear in (("k_proj", grouped.k_proj), ("v_proj", grouped.v_proj))
        for part, tensor in linear.state_dict().items()
    }


def test_qk_norm_is_the_rms_of_each_head_before_the_scores():
    layer = attention(AttentionOptions(qk_norm="rms"))
    x = vectors()

    def heads(linear: nn.Linear) -> Tensor:
        return F.linear(x, linear.weight, linear.bias).view(BATCH, TOKENS, HEADS, -1).transpose(1, 2)

    def normed(part: Tensor, gain: Tensor) -> Tensor:
        return part / (part.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * gain

    query, key = normed(heads(layer.q_proj), layer.q_norm.weight), normed(heads(layer.k_proj), layer.k_norm.weight)
    weights = (query @ key.mT / math.sqrt(WIDTH // HEADS)).softmax(-1)
    expected = layer.o_proj((weights @ heads(layer.v_proj)).transpose(1, 2).flatten(2))
    torch.testing.assert_close(layer(x), expected, **CLOSE)


def test_qk_norm_makes_the_scores_blind_to_the_size_of_queries_and_keys():
    layer = attention(AttentionOptions(qk_norm="rms", bias=False))
    before = layer(vectors())
    with torch.no_grad():
        layer.q_proj.weight.mul_(1000)
        layer.k_proj.weight.mul_(1000)
    # The norm's eps of 1e-5 is the only thing that sees the size.
    torch.testing.assert_close(layer(vectors()), before, rtol=0, atol=1e-4)


def test_the_future_does_not_leak():
    layer = attention(AttentionOptions(rotary=True))
    x = vectors()
    other = x.clone()
    other[:, -1] += 1
    before, after = layer(x, Context(causal=True)), layer(other, Context(causal=True))
    assert torch.equal(before[:, :-1], after[:, :-1])
    assert not torch.equal(before[:, -1], after[:, -1])


def test_padding_has_no_part_in_what_real_tokens_get():
    layer, keep, x = attention(), padding_mask(), vectors()
    other = torch.where(keep[..., None], x, 1e3)
    before, after = layer(x, Context(keep=keep)), layer(other, Context(keep=keep))
    torch.testing.assert_close(before[keep], after[keep], **CLOSE)


def test_attention_dropout_drops_weights_and_keeps_their_mean():
    """With all scores equal and values one, the output is the sum of the kept weights over 1 - p."""
    tokens, p = 400, 0.3
    layer = Attention(4, 1, AttentionOptions(dropout=p, bias=False))
    with torch.no_grad():
        for linear in (layer.q_proj, layer.k_proj):
            linear.weight.zero_()
        for linear in (layer.v_proj, layer.o_proj):
            linear.weight.copy_(torch.eye(4))
    torch.manual_seed(0)
    output = layer(torch.ones(1, tokens, 4))[0, :, 0]
    # 400 rows, each the mean of 400 independent draws of 1 / (1 - p) with probability 1 - p: its variance is
    # p / (1 - p) / 400. Five standard errors for the mean; five of the 7 % that a variance over 400 rows has.
    variance = p / (1 - p) / tokens
    assert abs(output.mean() - 1) < 5 * math.sqrt(variance / tokens)
    assert abs(output.var() / variance - 1) < 5 * math.sqrt(2 / tokens)
    assert torch.allclose(layer.eval()(torch.ones(1, tokens, 4))[0, :, 0], torch.ones(tokens), rtol=1e-6)


def test_output_dropout_drops_features_of_the_output_in_training_only():
    layer = attention(AttentionOptions(output_dropout=0.25))
    whole = layer.eval()(vectors(200))
    torch.manual_seed(0)
    dropped = layer.train()(vectors(200))
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], whole[kept] / 0.75, **CLOSE)
    # 7200 features: a standard error of 0.005.
    assert abs(kept.double().mean() - 0.75) < 0.025


@pytest.mark.parametrize(
    "options",
    [
        AttentionOptions(),
        AttentionOptions(num_kv_heads=1, qk_norm="rms", rotary=True, bias=False),
    ],
    ids=["plain", "grouped, normed, turned"],
)
def test_its_gradients_are_those_of_finite_differences(options):
    layer = Attention(WIDTH, HEADS, options).double()
    randomise_(layer)
    parameters = [p.detach().clone().requires_grad_() for p in layer.parameters()]
    names = [name for name, _ in layer.named_parameters()]

    def run(x: Tensor, *values: Tensor) -> Tensor:
        context = Context(causal=True, keep=padding_mask()[:2, :3])
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x, context))

    assert torch.autograd.gradcheck(run, (vectors(3, 2).requires_grad_(), *parameters))


def test_it_stays_in_bfloat16():
    layer = Attention(WIDTH, HEADS, AttentionOptions(qk_norm="rms", rotary=True)).bfloat16()
    assert layer(vectors().bfloat16(), Context(causal=True)).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Attention(512, 6), "num_heads=6 does not divide d_model=512; use 4 or 8."),
        (lambda: Attention(12, 0), "num_heads=0 does not divide d_model=12; use 1."),
        (lambda: Attention(0, 1), "d_model=0 is not allowed; use 1 or more."),
        (
            lambda: Attention(12, 4, AttentionOptions(num_kv_heads=3)),
            "num_kv_heads=3 does not divide num_heads=4; use 2 or 4.",
        ),
        (
            lambda: Attention(12, 4, AttentionOptions(num_kv_heads=0)),
            "num_kv_heads=0 does not divide num_heads=4; use 1.",
        ),
        (lambda: Attention(12, 4, AttentionOptions(rotary=True)), "a head width of 3 is odd"),
        (lambda: CrossAttention(12, 3, AttentionOptions(rotary=True)), "cross-attention has no rotary positions"),
        (lambda: AttentionOptions(qk_norm="rsm"), "qk_norm 'rsm' is unknown; did you mean 'rms'?"),
        (lambda: AttentionOptions(dropout=1.0), "dropout=1.0 is not allowed"),
        (lambda: AttentionOptions(output_dropout=-0.1), "output_dropout=-0.1 is not allowed"),
        (lambda: attention()(vectors()[0]), "what attends has shape (5, 12); give (batch, tokens, 12)."),
        (lambda: attention()(vectors()[..., :4]), "what attends has shape (3, 5, 4); give (batch, tokens, 12)."),
        (lambda: attention(kind=CrossAttention)(vectors()), "cross-attention got no memory"),
        (
            lambda: attention(kind=CrossAttention)(vectors(), Context(memory=vectors(batch=2))),
            "cross-attention got 3 rows of tokens and 2 rows of memory.",
        ),
    ],
)
def test_bad_input_is_told_in_one_line(make, told):
    with pytest.raises(UserError) as error:
        make()
    assert told in str(error.value)
    assert "\n" not in str(error.value)
