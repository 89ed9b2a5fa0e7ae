"""Attention residuals, full and by blocks: the paper's equations, and the package `attn_res`."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from attn_res import (
    AttnResMode,
    AttnResOperator,
    AttnResTransformer,
    TransformerConfig,
    online_softmax_merge,
    two_phase_block_attnres_inference,
)
from torch import Tensor, nn

from addnorm import Stack, UserError
from addnorm.kernels import native
from addnorm.kernels.depth_attention import depth_attention
from addnorm.schemes.attention_residuals import AttentionResiduals
from addnorm.schemes.block_attention_residuals import BlockAttentionResiduals
from addnorm.schemes.delta_attention_residuals import DeltaAttentionResiduals
from addnorm.schemes.pre_norm import PreNorm
from addnorm.testing.small_models import noise_like
from agreement import COMPARISONS, TOLERANCE, assert_agree, outcome, scatter_
from oracles.wide import Wide
from transcription import Parameters, Parts, assert_agrees, norm, real_sublayers

D = 8


def precise(dtype: torch.dtype) -> AbstractContextManager[object]:
    """The package rounds keys and rotary vectors to float32; not where float64 is compared."""
    return Wide() if dtype == torch.float64 else nullcontext()


def read(sources: list[Tensor], query: Tensor | None, p: Parameters) -> Tensor:
    """The norm of the sum of the sources, each with its share, the shares from scores one by one."""
    if query is None:
        return norm(sources[0], p, "norm")
    scores = [
        (query * v).sum(-1, keepdim=True) / ((v * v).sum(-1, keepdim=True) / v.shape[-1] + 1e-6) ** 0.5 for v in sources
    ]
    shares = [score.exp() for score in scores]
    mixture = sum(share * v for share, v in zip(shares, sources, strict=True)) / sum(shares)
    return norm(mixture, p, "norm", eps=1e-5 / len(sources) ** 2)


def full(parts: Parts) -> Tensor:
    v = [parts.x]
    for F, p in zip(parts.F, parts.at, strict=True):
        v.append(F(read(v, p.get("query"), p)))
    return read(v, parts.exit["query"], parts.exit)


def by_blocks(size: int):
    def compute(parts: Parts) -> Tensor:
        blocks, partial = [parts.x], []
        for i, (F, p) in enumerate(zip(parts.F, parts.at, strict=True)):
            if i % size == 0:
                blocks, partial = blocks + ([sum(partial)] if partial else []), []
            sources = blocks + ([sum(partial)] if partial else [])
            partial.append(F(read(sources, p.get("query"), p)))
        return read([*blocks, sum(partial)], parts.exit["query"], parts.exit)

    return compute


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_the_full_form_is_its_equation(kind):
    assert_agrees(AttentionResiduals(norm=kind), full)


@pytest.mark.parametrize(("layers", "num_blocks", "size"), [(2, 2, 2), (3, 2, 3), (3, 4, 2), (2, 8, 1), (2, 1, 4)])
def test_the_block_form_is_its_equation(layers, num_blocks, size):
    assert_agrees(BlockAttentionResiduals(num_blocks=num_blocks), by_blocks(size), real_sublayers(layers))


def sublayers(depth: int) -> list[nn.Module]:
    torch.manual_seed(0)
    return [nn.Sequential(nn.Linear(D, 12), nn.GELU(), nn.Linear(12, D)) for _ in range(depth)]


def moved(
    scheme: AttentionResiduals | BlockAttentionResiduals, depth: int, dtype: torch.dtype = torch.float64
) -> Stack:
    stack = Stack(scheme, sublayers(depth), D).to(dtype)
    scatter_(stack, 0.3)
    return stack


def test_as_many_blocks_as_sublayers_is_the_full_form():
    x = noise_like(torch.empty(3, D, dtype=torch.float64))
    assert torch.equal(moved(BlockAttentionResiduals(num_blocks=6), 6)(x), moved(AttentionResiduals(), 6)(x))


def test_one_block_is_a_standard_residual_beside_the_embedding():
    stack = moved(BlockAttentionResiduals(num_blocks=1), 5)
    x = noise_like(torch.empty(3, D, dtype=torch.float64))
    state, total = stack.entrance(x), torch.zeros_like(x)
    for block in stack.blocks:
        read, _ = block.connection.read(state)
        total = total + block.sublayer(read)
        state = block(state)
        assert len(state) == 2
        assert torch.equal(state[0], x)
        torch.testing.assert_close(state[1], total, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("depth", [1, 2, 7, 8, 9, 20])
def test_the_state_never_holds_more_than_the_blocks_and_the_embedding(depth):
    stack = moved(BlockAttentionResiduals(num_blocks=4), depth)
    state = stack.entrance(torch.ones(2, D).double())
    for block in stack.blocks:
        state = block(state)
    assert len(state) == 1 + -(-depth // -(-depth // 4))


def test_the_history_is_kept_by_reference():
    stack = moved(AttentionResiduals(), 4)
    states = [stack.entrance(torch.ones(2, D).double())]
    for block in stack.blocks:
        states.append(block(states[-1]))
    for before, after in zip(states, states[1:], strict=False):
        assert len(after) == len(before) + 1
        assert all(one is two for one, two in zip(before, after, strict=False))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("sources", [2, 5])
def test_a_read_is_the_operator_of_the_package(sources, dtype):
    theirs = AttnResOperator(D).to(dtype)
    with torch.no_grad():
        theirs.pseudo_query.copy_(noise_like(theirs.pseudo_query, 9))
    query = theirs.pseudo_query.detach().clone().requires_grad_()
    v = [(3.0**i * noise_like(torch.empty(2, 3, D, dtype=dtype), i)).requires_grad_() for i in range(sources)]
    named = {f"v {i}": one for i, one in enumerate(v)}
    ours = outcome(lambda: depth_attention(query, v, 1e-6), {"query": query} | named)
    with precise(dtype):
        found = outcome(lambda: theirs(torch.stack(v)), {"query": theirs.pseudo_query} | named)
    assert_agree(ours, found, TOLERANCE[dtype])


class WithContext(nn.Module):
    """A sublayer of the package, which also takes rotary frequencies and a mask."""

    def __init__(self, sublayer: nn.Module, context: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.sublayer, self.context = sublayer, context

    def forward(self, x: Tensor) -> Tensor:
        return self.sublayer(x, *self.context)


@pytest.mark.parametrize(("look", "dtype", "tolerance"), COMPARISONS)
@pytest.mark.parametrize("num_blocks", [1, 2, 4, None], ids=lambda n: "full" if n is None else f"{n} blocks")
def test_it_is_the_transformer_of_the_package(num_blocks, look, dtype, tolerance):
    # Its last read is a plain sum: ours with a query of zero, but for the count, which the norm takes away.
    mode = AttnResMode.FULL if num_blocks is None else AttnResMode.BLOCK
    config = TransformerConfig(
        d_model=D, n_layers=8, n_heads=2, n_kv_heads=1, vocab_size=5, max_seq_len=6, n_blocks=num_blocks or 1,
        attn_res_mode=mode, eps=1e-30,
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = AttnResTransformer(config)
    frequencies, theirs.rope_freqs = theirs.rope_freqs, None  # a change of dtype would drop their imaginary part
    theirs = theirs.to(dtype)
    with torch.no_grad():
        for seed, parameter in enumerate(theirs.parameters()):
            parameter.add_(0.3 * noise_like(parameter, seed))
    mask = theirs._build_causal_mask(6, torch.device("cpu")).to(dtype)
    made = [WithContext(layer.fn, (frequencies, mask)) if layer.is_attention else layer.fn for layer in theirs.layers]
    scheme = AttentionResiduals(norm="rms", eps=1e-30)
    if num_blocks is not None:
        scheme = BlockAttentionResiduals(norm="rms", eps=1e-30, num_blocks=num_blocks)
    stack = Stack(scheme, made, D).to(dtype)
    pairs = [(stack.exit.norm, theirs.out_norm)]
    pairs += [(block.connection.norm, layer.norm) for block, layer in zip(stack.blocks, theirs.layers, strict=True)]
    named_ours, named_theirs = {}, {}
    with torch.no_grad():
        for i, (our_norm, their_norm) in enumerate(pairs):
            our_norm.eps = 1e-30
            our_norm.weight.copy_(their_norm.weight)
            named_ours[f"gain {i}"], named_theirs[f"gain {i}"] = our_norm.weight, their_norm.weight
        for i, (block, layer) in enumerate(zip(stack.blocks, theirs.layers, strict=True)):
            if i:  # the first sublayer has one source, and its query in the package no effect
                block.connection.query.copy_(layer.attn_res.pseudo_query)
                named_ours[f"query {i}"] = block.connection.query
                named_theirs[f"query {i}"] = layer.attn_res.pseudo_query
    shared = {name: p for name, p in theirs.layers.named_parameters() if ".fn." in name}
    x = noise_like(torch.empty(2, 6, D, dtype=dtype)).requires_grad_()
    run = theirs._forward_full_attnres if num_blocks is None else theirs._forward_block_attnres
    with precise(dtype):  # ours runs the sublayers of the package
        ours = look(lambda: stack(x), {"x": x} | shared | named_ours)
        found = look(lambda: theirs.out_norm(run(x, frequencies, mask)), {"x": x} | shared | named_theirs)
    assert_agree(ours, found, tolerance)


def test_the_read_in_two_phases_is_the_read_in_one():
    """Finished blocks first, then the partial sum, merged by their maxima: what the paper does in inference."""
    sources = [2.0**i * noise_like(torch.empty(2, 3, D, dtype=torch.float64), i) for i in range(5)]
    query = noise_like(torch.empty(D, dtype=torch.float64), 9)
    norm_of_keys = AttnResOperator(D).key_norm
    with Wide():
        phases = [
            [part[0] for part in two_phase_block_attnres_inference(query[None], torch.stack(some), norm_of_keys)]
            for some in (sources[:4], sources[4:])
        ]
    merged = online_softmax_merge(*phases[0], *phases[1])
    torch.testing.assert_close(merged, depth_attention(query, sources, 1e-6), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("way", ["whole", "seen", "torch"])
@pytest.mark.parametrize("size", [1e-4, 0.02, 1.0])
@pytest.mark.parametrize("kind", ["layer", "rms"])
@pytest.mark.parametrize("scheme", [AttentionResiduals, BlockAttentionResiduals, DeltaAttentionResiduals])
def test_a_zero_query_is_pre_norm_at_any_size_of_the_stream(scheme, kind, size, way):
    stack = Stack(scheme(norm=kind), sublayers(20), D).double()
    pre = Stack(PreNorm(norm=kind), sublayers(20), D).double()
    if way == "seen":  # each read then has a history of its own
        stack.blocks[3].register_forward_hook(lambda *_: None)
    results = []
    for one in (stack, pre):
        with torch.no_grad():
            for block in one.blocks:
                block.sublayer[2].weight.mul_(size)
                block.sublayer[2].bias.mul_(size)
        x = (size * noise_like(torch.empty(3, D, dtype=torch.float64))).requires_grad_()
        with native.switched(False) if way == "torch" and one is stack else nullcontext():
            results.append(outcome(lambda one=one, x=x: one(x), {"x": x} | dict(one.named_parameters(prefix=""))))
    ours, theirs = ({name: one for name, one in found.items() if "query" not in name} for found in results)
    # 1e-9: float64 sums over 20 sublayers, in another order, divided by a stream of 1e-4.
    assert_agree(ours, theirs, 1e-9)


def test_the_exit_is_pre_norm_s_at_any_depth():
    stack, pre = (Stack(scheme, sublayers(6), D).double() for scheme in (AttentionResiduals(), PreNorm()))
    x = 0.02 * noise_like(torch.empty(3, D, dtype=torch.float64))
    ours, theirs = stack.entrance(x), pre.entrance(x)
    for block, other in zip(stack.blocks, pre.blocks, strict=True):
        ours, theirs = block(ours), other(theirs)
        torch.testing.assert_close(stack.exit(ours), pre.exit(theirs), rtol=1e-12, atol=1e-12)


def test_the_sources_are_outputs_and_not_sums():
    stack = moved(AttentionResiduals(), 3)
    x = noise_like(torch.empty(3, D, dtype=torch.float64))
    state = stack.entrance(x)
    for block in stack.blocks:
        read, _ = block.connection.read(state)
        expected = block.sublayer(read)
        state = block(state)
        torch.testing.assert_close(state[-1], expected, rtol=1e-12, atol=1e-12)


def test_a_heavy_query_reads_one_source_and_values_are_not_normalised():
    sources = [3.0 * torch.eye(D)[i].double() for i in range(4)]
    query = 100.0 * torch.eye(D)[2].double()
    torch.testing.assert_close(depth_attention(query, sources, 1e-6), sources[2], rtol=1e-9, atol=1e-9)


def test_the_first_sublayer_has_nothing_to_weigh():
    stack = Stack(AttentionResiduals(), sublayers(3), D)
    assert stack.blocks[0].connection.query is None
    assert all((block.connection.query == 0).all() for block in stack.blocks[1:])
    assert (stack.exit.query == 0).all()


def test_mistakes_are_refused_when_the_scheme_is_made():
    for wrong in (0, -1, 1.5, "8"):
        with pytest.raises(UserError, match=f"num_blocks={wrong} is not allowed"):
            BlockAttentionResiduals(num_blocks=wrong)
    with pytest.raises(UserError, match="eps=-1 is not allowed"):
        AttentionResiduals(eps=-1)
    for norm_kind in ("none", "batch"):
        assert AttentionResiduals(norm=norm_kind).starts_as() is None
        assert BlockAttentionResiduals(norm=norm_kind).starts_as() is None
