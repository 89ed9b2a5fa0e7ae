"""Attention over depth in C++ equals the formula along a whole stack, whichever part of the graph is asked for."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from addnorm import Transformer
from addnorm.kernels import native
from addnorm.kernels.depth_history import Norm, begin, read_reference
from addnorm.kernels.depth_history_call import LAYER, NONE, RMS
from addnorm.probes.memory import activation_bytes
from addnorm.schemes.attention_residuals import AttentionResiduals
from addnorm.schemes.block_attention_residuals import BlockAttentionResiduals
from addnorm.schemes.pre_norm import PreNorm
from addnorm.testing.small_models import moved, noise_like, projected, states, tokens
from agreement import TOLERANCE, assert_agree, is_within

EPS = 1e-6
SCHEMES = [
    AttentionResiduals(),
    AttentionResiduals(norm="rms"),
    AttentionResiduals(norm="tanh"),
    BlockAttentionResiduals(num_blocks=1),
    BlockAttentionResiduals(num_blocks=3),
    BlockAttentionResiduals(num_blocks=4, norm="rms"),
]
# The writes after each read: a source more, or the last one grown.
FULL, BLOCKS = (True, True, True, True), (True, False, False, True, False)
# bfloat16 keeps 8 bits; states and gradients are rounded to it some ten times on their way.
ROUNDED = 0.06

pytestmark = pytest.mark.skipif(native.library("depth_history") is None, reason="no C++ compiler here")


def inputs(shape: tuple[int, ...], reads: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Embedding, and for each read a query, a gain, a bias and the gain of a sublayer."""
    d = shape[-1]
    named = {"embedding": noise_like(torch.empty(shape, dtype=torch.float64), 1)}
    for i in range(reads):
        for kind in ("query", "gain", "bias", "sublayer"):
            made = noise_like(torch.empty(d, dtype=torch.float64), 7 * i + len(kind))
            # Scores of about 1, or softmax would choose one source and rounding would decide which.
            named[f"{kind} {i}"] = made / d**0.5 if kind == "query" else made + (kind != "bias")
    # Rounded once, so that all precisions start from the same numbers.
    return {name: torch.nn.Parameter(one.to(torch.bfloat16).to(dtype)) for name, one in named.items()}


def norm_of(kind: int, given: dict[str, Tensor], i: int) -> Norm:
    if kind == NONE:
        return Norm()
    return Norm(kind=kind, weight=given[f"gain {i}"], bias=given[f"bias {i}"] if kind == LAYER else None, eps=1e-5)


def in_cpp(given: dict[str, Tensor], writes: tuple[bool, ...], kind: int) -> list[Tensor]:
    """What each read of a stack gives; its sublayers multiply by a vector."""
    reads = len(writes) + 1
    queries = [given[f"query {i}"] for i in range(reads)]
    history = begin([given["embedding"] * 1], queries, EPS)
    assert history is not None
    history = history.append((given["embedding"] * given["sublayer 0"]).tanh())
    found = []
    for i in range(reads):
        x, history = history.read(norm_of(kind, given, i))
        found.append(x)
        if i < len(writes):
            update = (x * given[f"sublayer {i + 1}"]).tanh()
            history = history.append(update) if writes[i] else history.grow(update)
    return found


def by_formula(given: dict[str, Tensor], writes: tuple[bool, ...], kind: int) -> list[Tensor]:
    sources = [given["embedding"], (given["embedding"] * given["sublayer 0"]).tanh()]
    found = []
    for i in range(len(writes) + 1):
        found.append(read_reference(given[f"query {i}"], sources, EPS, norm_of(kind, given, i)))
        if i < len(writes):
            update = (found[-1] * given[f"sublayer {i + 1}"]).tanh()
            sources = [*sources, update] if writes[i] else [*sources[:-1], sources[-1] + update]
    return found


def values_and_gradients(compute, given: dict[str, Tensor], *way) -> dict[str, Tensor]:
    found = compute(given, *way)
    grads = torch.autograd.grad(projected(tuple(found)), list(given.values()), allow_unused=True)
    outputs = {f"read {i}": one.detach() for i, one in enumerate(found)}
    return outputs | {name: grad for name, grad in zip(given, grads, strict=True) if grad is not None}


@pytest.mark.parametrize("kind", [NONE, LAYER, RMS], ids=["none", "layer", "rms"])
@pytest.mark.parametrize("writes", [FULL, BLOCKS, ()], ids=["full", "blocks", "one read"])
@pytest.mark.parametrize("shape", [(1, 3), (7, 33), (2, 3, 64), (5, 1), (3, 512), (97, 20)], ids=str)
def test_it_is_the_formula_in_value_and_gradient(shape, writes, kind):
    reference = values_and_gradients(by_formula, inputs(shape, len(writes) + 2, torch.float64), writes, kind)
    for dtype, tolerance in TOLERANCE.items():
        ours = values_and_gradients(in_cpp, inputs(shape, len(writes) + 2, dtype), writes, kind)
        assert ours.keys() == reference.keys()
        for name, expected in reference.items():
            # A vector of one number has a key of one sign: steep where it is near 0, so that rounding shows.
            is_within(tolerance * (10 if shape[-1] == 1 else 1), name, ours[name], expected)


@pytest.mark.parametrize("writes", [FULL, BLOCKS], ids=["full", "blocks"])
def test_it_is_the_formula_to_rounding_in_bfloat16(writes):
    shape = (5, 48)
    reference = values_and_gradients(by_formula, inputs(shape, 6, torch.float64), writes, LAYER)
    ours = values_and_gradients(in_cpp, inputs(shape, 6, torch.bfloat16), writes, LAYER)
    for name, expected in reference.items():
        assert ours[name].dtype == torch.bfloat16
        is_within(ROUNDED, name, ours[name], expected)


def test_two_threads_give_the_bits_of_one_but_for_sums_over_tokens():
    results = []
    for threads in (1, 2):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            results.append(values_and_gradients(in_cpp, inputs((203, 40), 6, torch.float32), FULL, LAYER))
        finally:
            torch.set_num_threads(before)
    one, two = results
    for name in one:
        if name.startswith(("read", "embedding")):
            assert torch.equal(one[name], two[name])
    assert_agree(one, two, TOLERANCE[torch.float32])


# --- a whole model


def gradients(model: Transformer, ids: Tensor) -> dict[str, Tensor]:
    loss = projected(model(ids))
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(named.values()))
    return {"loss": loss.detach()} | dict(zip(named, found, strict=True))


def both_ways(compute) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """With the kernel and without."""
    found = []
    for on in (True, False):
        with native.switched(on):
            found.append(compute())
    return found[0], found[1]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_a_model_is_the_same_with_the_kernel_and_without(scheme, dtype):
    model = moved(scheme, num_layers=4).to(dtype)
    ours, theirs = both_ways(lambda: gradients(model, tokens()))
    # Eight sublayers: each adds its rounding to a loss that sums over 200 logits.
    assert_agree(ours, theirs, 10 * TOLERANCE[dtype])


def test_it_is_the_kernel_that_runs(monkeypatch):
    def refuse(*_):
        raise AssertionError("torch's path ran")

    monkeypatch.setattr("addnorm.schemes._depth_history.depth_attention", refuse)
    moved(AttentionResiduals())(tokens())
    with native.switched(False), pytest.raises(AssertionError, match="torch's path ran"):
        moved(AttentionResiduals())(tokens())


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_a_state_that_someone_sees_has_the_same_bits(scheme):
    """Block by block, each with a history of its own, as under hooks and checkpointing."""
    model, ids = moved(scheme, num_layers=4), tokens()
    together = gradients(model, ids)
    for block in model.stack.blocks:
        block.register_forward_hook(lambda *_: None)
    apart = gradients(model, ids)
    for name, expected in together.items():
        assert torch.equal(expected, apart[name]), name


@pytest.mark.parametrize("scheme", SCHEMES[:1] + SCHEMES[4:5], ids=str)
def test_the_gradient_of_a_state_between_is_whole(scheme):
    def compute() -> dict[str, Tensor]:
        model = moved(scheme, num_layers=3).double()
        found = states(model, tokens())
        # Two ways out of each state: the exit, and the blocks after it.
        loss = sum(projected(model.stack.exit(state)) * (1 + i) for i, state in enumerate(found))
        leaves = [leaf for state in found for leaf in state]
        grads = torch.autograd.grad(loss, leaves)
        return {f"leaf {i}": grad for i, grad in enumerate(grads)}

    assert_agree(*both_ways(compute), TOLERANCE[torch.float64])


# --- parts of the graph, in one pass after another


def watched(model: Transformer) -> list[Tensor]:
    """What sublayers return in a forward, as anyone may see it."""
    seen: list[Tensor] = []
    for block in model.stack.blocks:
        block.sublayer.register_forward_hook(lambda module, given, output: seen.append(output))
    return seen


@pytest.mark.parametrize("scheme", SCHEMES[:1] + SCHEMES[3:5], ids=str)
def test_passes_over_parts_of_a_kept_graph_do_not_mix(scheme):
    def compute() -> dict[str, Tensor]:
        model, found = moved(scheme, num_layers=3).double(), {}
        updates, parameters = watched(model), list(model.parameters())
        logits = model(tokens())
        losses = {"all": projected(logits), "inner": projected(updates[2]), "last": projected(updates[-1])}
        for turn, name in enumerate(("all", "inner", "all", "last", "inner", "all")):
            grads = torch.autograd.grad(
                losses[name], parameters, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            found |= {f"{turn} {name} {i}": grad for i, grad in enumerate(grads)}
        return found

    ours, theirs = both_ways(compute)
    for name, expected in theirs.items():
        is_within(TOLERANCE[torch.float64], name, ours[name], expected)
        if name.startswith("0 all"):
            assert torch.equal(ours[name], ours[name.replace("0", "2", 1)]), name


@pytest.mark.parametrize("scheme", SCHEMES[:1] + SCHEMES[3:5], ids=str)
def test_a_gradient_asked_for_alone_is_right(scheme):
    def compute() -> dict[str, Tensor]:
        model, found = moved(scheme, num_layers=3).double(), {}
        updates = watched(model)
        loss = projected(model(tokens()))
        for i, wanted in enumerate([*updates, *(block.connection.query for block in model.stack.blocks[1:])]):
            (found[str(i)],) = torch.autograd.grad(loss, wanted, retain_graph=True)
        return found

    assert_agree(*both_ways(compute), TOLERANCE[torch.float64])


def test_a_pass_within_a_pass_leaves_it_alone():
    def compute() -> dict[str, Tensor]:
        model, within, entered = moved(SCHEMES[4], num_layers=3).double(), [], False
        updates = watched(model)
        loss = projected(model(tokens()))
        weight = model.stack.blocks[1].connection.query

        def probe(grad: Tensor) -> None:
            nonlocal entered
            if not entered:
                entered = True
                within.append(torch.autograd.grad(loss, weight, 2 * torch.ones_like(loss), retain_graph=True)[0])

        updates[2].register_hook(probe)
        grads = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
        return {"within": within[0]} | {str(i): grad for i, grad in enumerate(grads)}

    assert_agree(*both_ways(compute), TOLERANCE[torch.float64])


@pytest.mark.parametrize("kept", ["query", "sublayer", "norm", "embedding", "blocks.1.", "blocks.5."])
@pytest.mark.parametrize("scheme", SCHEMES[:1] + SCHEMES[4:5], ids=str)
def test_frozen_parameters_change_no_other_gradient(scheme, kept):
    def compute() -> dict[str, Tensor]:
        model = moved(scheme, num_layers=3).double()
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(kept in name)
        return gradients(model, tokens())

    assert_agree(*both_ways(compute), TOLERANCE[torch.float64])


def test_nothing_is_left_of_a_pass(monkeypatch):
    from addnorm.kernels import depth_history_backward

    passages = []
    original = depth_history_backward.Passage.__init__
    monkeypatch.setattr(
        depth_history_backward.Passage, "__init__", lambda self: (original(self), passages.append(self))[0]
    )
    model = moved(AttentionResiduals())
    projected(model(tokens())).backward(retain_graph=True)
    assert len(passages) == 1
    assert passages[0].passes == {}


# --- surroundings


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_whole_model_may_be_recomputed(reentrant):
    model, ids = moved(AttentionResiduals()), tokens()
    plain = gradients(model, ids)
    embedded = model.embedding(ids, torch.arange(ids.shape[1]))
    loss = projected(model.head(checkpoint(model.stack, embedded, use_reentrant=reentrant), model.embedding.tokens))
    model.zero_grad()
    loss.backward()
    for name, parameter in model.named_parameters():
        if ".connection." in name:
            assert parameter.grad is not None
            assert parameter.grad.shape == plain[name].shape


@pytest.mark.parametrize("scheme", SCHEMES[:2] + SCHEMES[4:5], ids=str)
def test_under_autocast_it_is_as_near_to_full_precision_as_torch(scheme):
    model, ids = moved(scheme), tokens()
    plain = gradients(model, ids)
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = both_ways(lambda: gradients(model, ids))
    errors = [sum(float((one[name] - plain[name]).square().sum()) for name in plain) ** 0.5 for one in (ours, theirs)]
    # Both round at the same places, in another order.
    assert 0 < errors[0] < 1.2 * errors[1]


def test_a_copied_model_gives_the_same_bits():
    model = moved(AttentionResiduals())
    projected(model(tokens())).backward(retain_graph=True)
    for one, two in zip(
        gradients(model, tokens()).values(), gradients(copy.deepcopy(model), tokens()).values(), strict=True
    ):
        assert torch.equal(one, two)


@pytest.mark.slow
def test_a_compiled_model_is_the_same():
    model, ids = moved(AttentionResiduals()), tokens()
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    # Eager takes the kernel, the compiled model torch's operations.
    is_within(TOLERANCE[torch.float32] * 10, "logits", compiled(ids).detach(), model(ids).detach())


def test_an_exit_that_is_watched_is_given_the_sources():
    model, seen = moved(AttentionResiduals()), []
    model.stack.exit.register_forward_pre_hook(lambda module, given: seen.extend(given[0]))
    before = model(tokens())
    assert len(seen) == 5
    assert all(isinstance(one, Tensor) for one in seen)
    (grad,) = torch.autograd.grad(projected(before), seen[0])
    assert grad.abs().max() > 0


def test_a_watched_norm_is_called():
    model, seen = moved(AttentionResiduals()), []
    expected = model(tokens())
    model.stack.blocks[2].connection.norm.register_forward_hook(lambda *_: seen.append(1))
    is_within(TOLERANCE[torch.float32], "logits", model(tokens()), expected)
    assert len(seen) == 1


@pytest.mark.parametrize("scheme", [AttentionResiduals(), BlockAttentionResiduals()], ids=str)
def test_it_keeps_at_most_a_fifth_more_than_pre_norm(scheme):
    shape = {"vocab_size": 64, "d_model": 64, "num_heads": 1, "num_layers": 8}
    ids = torch.zeros(2, 64, dtype=torch.long)
    ours, base = (
        activation_bytes(Transformer(one, **shape), ids, lambda model, batch: model(batch).sum())
        for one in (scheme, PreNorm())
    )
    assert ours <= 1.2 * base


@pytest.mark.slow
@pytest.mark.parametrize("kind", [NONE, LAYER, RMS])
@pytest.mark.parametrize("writes", [FULL, BLOCKS], ids=["full", "blocks"])
def test_the_second_derivative_of_a_stack_is_right(writes, kind):
    given = inputs((2, 3), len(writes) + 1, torch.float64)

    def results(*tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(in_cpp(dict(zip(given, tensors, strict=True)), writes, kind))

    assert torch.autograd.gradgradcheck(results, tuple(given.values()), fast_mode=True)


def test_the_gradient_of_a_gradient_is_the_formulas_for_a_part_of_the_graph():
    given = inputs((2, 3), len(BLOCKS) + 1, torch.float64)
    found = []
    for run in (in_cpp, by_formula):
        results = run(given, BLOCKS, LAYER)
        (first,) = torch.autograd.grad(projected(results[2]), [given["sublayer 0"]], create_graph=True)
        found.append(torch.autograd.grad(projected(first), [given["embedding"], given["query 2"]]))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)  # float64 in another order
