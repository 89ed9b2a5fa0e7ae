"""The decoder: embeddings, arrangements, padding, cache, dropout, copying, compiling."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from addnorm import Transformer, schemes
from addnorm.layers.batch_norm import BatchNorm
from addnorm.layers.cache import KVCache
from addnorm.layers.context import Context
from models.bodies import SHAPE, VOCAB, decoder, ids, left_padded

# float64; kernels sum the same products in another order.
CLOSE = {"rtol": 0, "atol": 1e-11}
POSITIONS = ["rotary", "learned", "sinusoidal", "none"]
ARRANGEMENTS = ["sequential", "parallel", "composed"]


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_the_future_does_not_leak(position, arrangement):
    model, tokens = decoder(position=position, arrangement=arrangement), ids()
    other = tokens.clone()
    other[:, -1] = (other[:, -1] + 1) % VOCAB
    assert torch.equal(model(tokens)[:, :-1], model(other)[:, :-1])
    assert not torch.equal(model(tokens)[:, -1], model(other)[:, -1])


def test_sublayers_stand_in_order_under_one_connection_each():
    model, tokens = decoder(), ids()
    context = Context(causal=True)
    h = model.embedding(tokens, torch.arange(7))
    for block in model.stack.blocks:
        h = h + block.sublayer(block.connection.norm(h), context)
    torch.testing.assert_close(model(tokens), model.head(model.stack.exit(h), model.embedding.tokens), **CLOSE)
    assert [site.kind for site in model.stack.sites] == ["attention", "feedforward"] * 2
    assert [site.layer for site in model.stack.sites] == [0, 0, 1, 1]


def test_parallel_sublayers_share_input_and_connection():
    model, tokens = decoder(arrangement="parallel"), ids()
    context = Context(causal=True)
    h = model.embedding(tokens, torch.arange(7))
    for block in model.stack.blocks:
        attention, feedforward = block.sublayer.sublayers
        x = block.connection.norm(h)
        h = h + attention(x, context) + feedforward(x)
    torch.testing.assert_close(model(tokens), model.head(model.stack.exit(h), model.embedding.tokens), **CLOSE)
    assert [site.kind for site in model.stack.sites] == ["parallel"] * 2


def test_composed_with_pre_and_post_norm_is_the_formula_it_is_named_for():
    """`z = LN(x + FFN(Attn(LN(x))))`."""
    model, tokens = decoder(scheme="pre-post-norm", arrangement="composed"), ids()
    context = Context(causal=True)
    h = model.embedding(tokens, torch.arange(7))
    for block in model.stack.blocks:
        attention, feedforward = block.sublayer.sublayers
        connection = block.connection
        h = connection.post_norm(h + feedforward(attention(connection.pre_norm(h), context)))
    torch.testing.assert_close(model(tokens), model.head(h, model.embedding.tokens), **CLOSE)


@pytest.mark.parametrize("position", POSITIONS)
def test_left_padded_rows_get_what_they_get_alone(position):
    model = decoder(position=position)
    rows, tokens, keep = left_padded([7, 4, 1])
    logits = model(tokens, keep)
    for i, row in enumerate(rows):
        torch.testing.assert_close(logits[i, keep[i]], model(row[None])[0], **CLOSE)


def test_right_padded_rows_get_what_they_get_alone():
    model, tokens = decoder(position="learned"), ids()
    keep = torch.arange(7) < torch.tensor([[7], [5], [2]])
    logits = model(tokens, keep)
    for i in range(3):
        torch.testing.assert_close(logits[i, keep[i]], model(tokens[i : i + 1, keep[i]])[0], **CLOSE)


@settings(max_examples=20)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=2, max_size=4),
    position=st.sampled_from(POSITIONS),
    arrangement=st.sampled_from(ARRANGEMENTS),
    kv_heads=st.sampled_from([1, 2, 4]),
    padded=st.booleans(),
)
@torch.no_grad()
def test_cached_decoding_equals_the_full_forward(sizes, position, arrangement, kv_heads, padded):
    model = decoder(position=position, arrangement=arrangement, num_kv_heads=kv_heads, qk_norm="rms")
    total = sum(sizes)
    _, tokens, keep = left_padded([total, max(1, total - sizes[0]), max(1, total - sizes[0] - 1)])
    keep = keep if padded else None
    cache, start, parts = KVCache(), 0, []
    for size in sizes:
        known = None if keep is None else keep[:, : start + size]
        parts.append(model(tokens[:, start : start + size], known, cache))
        start += size
    found, whole = torch.cat(parts, dim=1), model(tokens, keep)
    real = torch.ones_like(tokens, dtype=torch.bool) if keep is None else keep
    torch.testing.assert_close(found[real], whole[real], **CLOSE)


def test_batch_norm_of_a_cached_padded_batch_is_given_the_padding_of_its_own_tokens():
    model = decoder()
    replace_norms_with_batch_norm(model)
    _, tokens, keep = left_padded([6, 4, 2])
    cache = KVCache()
    model.train()
    model(tokens[:, :4], keep[:, :4], cache)
    assert model(tokens[:, 4:], keep, cache).shape == (3, 2, VOCAB)


def replace_norms_with_batch_norm(model: Transformer) -> None:
    for block in model.stack.blocks:
        block.connection.norm = BatchNorm(16).double()


def parameter_names(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_parameters(remove_duplicate=False)]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "change", [copy.deepcopy, lambda m: m.to(torch.float32).double(), lambda m: m.to("cpu")], ids=["copy", "cast", "to"]
)
def test_tied_embeddings_stay_tied_and_untied_ones_apart(tied, change):
    model = change(decoder(tie_embeddings=tied))
    before = model(ids())
    with torch.no_grad():
        model.embedding.tokens.weight[:] *= 2
    logits = model(ids())
    if tied:
        h = model.embedding.tokens(ids())
        expected = model.stack(h, Context(causal=True)) @ model.embedding.tokens.weight.T
        torch.testing.assert_close(logits, expected, **CLOSE)
    else:
        expected = model.stack(model.embedding.tokens(ids()), Context(causal=True)) @ model.head.own.weight.T
        torch.testing.assert_close(logits, expected, **CLOSE)
    assert not torch.equal(before, logits)
    assert ("head.own.weight" in parameter_names(model)) is not tied
    assert len(parameter_names(model)) == len(set(map(id, model.parameters())))


def test_the_gradient_of_a_tied_embedding_is_the_sum_of_both_uses():
    tied = decoder()
    untied = decoder(tie_embeddings=False)
    untied.load_state_dict(tied.state_dict() | {"head.own.weight": tied.embedding.tokens.weight})
    for model in (tied, untied):
        model(ids()).logsumexp(-1).sum().backward()
    both = untied.embedding.tokens.weight.grad + untied.head.own.weight.grad
    torch.testing.assert_close(tied.embedding.tokens.weight.grad, both, **CLOSE)


def fresh(**changes: object) -> Transformer:
    return Transformer(schemes.get(changes.pop("scheme", "pre-norm"))(), **(SHAPE | changes))


def sublayer_weights(model: Transformer) -> Iterable[tuple[str, Tensor]]:
    return ((name, p) for name, p in model.named_parameters() if "connection" not in name and "exit" not in name)


@pytest.mark.parametrize("change", [{"scheme": "sandwich-norm"}, {"dropout": 0.3, "attention_dropout": 0.2}])
def test_the_same_seed_gives_the_same_sublayers(change):
    ours, others = dict(sublayer_weights(fresh())), dict(sublayer_weights(fresh(**change)))
    assert ours.keys() == others.keys()
    for name, weight in ours.items():
        assert torch.equal(weight, others[name]), name


def test_a_deeper_model_starts_with_the_same_first_layers():
    shallow, deep = dict(fresh().named_parameters()), dict(fresh(num_layers=5).named_parameters())
    assert all(torch.equal(weight, deep[name]) for name, weight in shallow.items())


def test_another_seed_gives_other_weights():
    assert not torch.equal(fresh().embedding.tokens.weight, fresh(seed=1).embedding.tokens.weight)


def test_dropout_falls_on_the_embedding_and_on_every_sublayers_output():
    model = fresh(dropout=0.5, tie_embeddings=False).train()
    seen: list[Tensor] = []
    for module in (model.embedding, *(block.sublayer for block in model.stack.blocks)):
        module.register_forward_hook(lambda _, __, output: seen.append(output))
    torch.manual_seed(0)
    model(ids(20, 50))
    assert len(seen) == 5
    for output in seen:
        # 16000 features: a standard error of 0.004.
        assert abs((output == 0).float().mean() - 0.5) < 0.02
    model.eval()
    assert torch.equal(model(ids()), model(ids()))


def test_recomputing_activations_changes_no_bit_even_with_dropout():
    gradients = []
    for checkpointing in (False, True):
        model = fresh(dropout=0.2, attention_dropout=0.2).train()
        model.stack.checkpointing = checkpointing
        torch.manual_seed(0)
        loss = model(ids()).logsumexp(-1).mean()
        loss.backward()
        gradients.append([loss, *(p.grad for p in model.parameters())])
    for a, b in zip(*gradients, strict=True):
        assert torch.equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("position", POSITIONS)
def test_it_compiles_whole_with_and_without_padding(position):
    model, (_, tokens, keep) = decoder(position=position), left_padded([7, 4, 1])
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(tokens), model(tokens), **CLOSE)
    torch.testing.assert_close(compiled(tokens, keep), model(tokens, keep), **CLOSE)


def test_an_empty_batch_and_a_single_token_pass():
    model = decoder()
    assert model(ids(0, 4)).shape == (0, 4, VOCAB)
    assert model(ids(1, 1)).shape == (1, 1, VOCAB)
