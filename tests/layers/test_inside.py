"""What a scheme may ask for within sublayers: the kernel that holds scores, several views, parts at places."""

from __future__ import annotations

from dataclasses import dataclass, fields

import pytest
import torch
from torch import Tensor, nn

from addnorm import Transformer, UserError
from addnorm.layers.arrange import Composed, Parallel
from addnorm.layers.attention import Attention, AttentionOptions, CrossAttention
from addnorm.layers.context import Context
from addnorm.layers.feedforward import FeedForward
from addnorm.layers.inside import Inside, NormPart, Part, Passed, PlaceShape
from addnorm.layers.views import Views
from addnorm.schemes.pre_norm import PreNorm
from addnorm.testing.small_models import tokens
from agreement import assert_agree, outcome
from oracles.ties import randomise_

BATCH, TOKENS, WIDTH, HEADS = 3, 5, 12, 2
KEEP = torch.tensor([[True] * 5, [False] * 2 + [True] * 3, [False] * 5])
ADDITIVE = torch.randn(HEADS, TOKENS, TOKENS, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
CONTEXTS = {
    "all": Context(),
    "causal": Context(causal=True),
    "padding": Context(causal=True, keep=KEEP),
    "boolean mask": Context(mask=torch.ones(TOKENS, TOKENS, dtype=torch.bool).triu(1)),
    "additive mask": Context(causal=True, mask=ADDITIVE[None]),
    "additive mask that forbids": Context(
        mask=ADDITIVE[None].masked_fill(ADDITIVE[None] > 0, float("-inf")), keep=KEEP
    ),
}


def vectors(seed: int = 1) -> Tensor:
    return torch.randn(BATCH, TOKENS, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def layer(kind: type[Attention] = Attention, **options: object) -> Attention:
    made = kind(WIDTH, HEADS, AttentionOptions(**options)).double()
    randomise_(made)
    return made


# --- the kernel that holds the scores


@pytest.mark.parametrize("kv_heads", [1, HEADS])
@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS.keys())
def test_the_plain_kernel_equals_the_fused_one_in_value_and_gradient(context, kv_heads):
    outcomes = []
    for kernel in ("fused", "plain"):
        attention = layer(kernel=kernel, num_kv_heads=kv_heads, rotary=True)
        x = vectors().requires_grad_()
        named = {"x": x, **dict(attention.named_parameters())}
        outcomes.append(outcome(lambda attention=attention, x=x: attention(x, context), named))
    # 1e-12: float64 sums of a few dozen products in another order.
    assert_agree(outcomes[1], outcomes[0], 1e-12)


def test_the_plain_kernel_stays_in_bfloat16():
    attention = layer(kernel="plain").bfloat16()
    assert attention(vectors().bfloat16(), Context(causal=True, keep=KEEP)).dtype == torch.bfloat16


def test_the_plain_kernel_drops_weights_in_training_only():
    attention = layer(kernel="plain", dropout=0.5)
    x = vectors()
    assert not torch.equal(attention(x), attention(x))
    attention.eval()
    assert torch.equal(attention(x), attention(x))


def test_a_model_chooses_the_kernel():
    shape = {"vocab_size": 11, "d_model": 16, "num_heads": 2, "num_layers": 2}
    plain, fused = (Transformer(PreNorm(), attention=kernel, **shape) for kernel in ("plain", "fused"))
    assert {block.sublayer.kernel for block in plain.stack.blocks[::2]} == {"plain"}
    torch.testing.assert_close(plain(tokens()), fused(tokens()))
    with pytest.raises(UserError, match="attention"):
        Transformer(PreNorm(), attention="flash", **shape)


# --- several views


def test_queries_keys_and_values_may_each_read_a_view_of_their_own():
    attention, views = layer(rotary=True), Views(vectors(1), vectors(2), vectors(3))
    assert torch.equal(attention(Views(*3 * (views.key,))), attention(views.key))
    output = attention(views, Context(causal=True))
    for place, projection in enumerate((attention.q_proj, attention.k_proj, attention.v_proj)):
        changed = list(views)
        changed[place] = vectors(9)
        handle = projection.register_forward_hook(
            lambda _, __, ___, p=projection, x=views[place]: nn.functional.linear(x, p.weight, p.bias)
        )
        # Only its own projection reads the view: with that undone the change is not seen.
        assert torch.equal(attention(Views(*changed), Context(causal=True)), output)
        handle.remove()
        assert not torch.allclose(attention(Views(*changed), Context(causal=True)), output)


def test_cross_attention_reads_the_query_alone():
    attention, memory = layer(CrossAttention), vectors(7)
    views = Views(vectors(1), vectors(2), vectors(3))
    context = Context(memory=memory)
    assert torch.equal(attention(views, context), attention(views.query, context))


def test_a_view_of_a_wrong_width_is_refused():
    with pytest.raises(UserError, match=r"give \(batch, tokens, 12\)"):
        layer()(Views(vectors(), vectors(), vectors()[..., :4]))


# --- parts at places


class Marked(nn.Module):
    def __init__(self, place: str, shape: PlaceShape, seen: list) -> None:
        super().__init__()
        self.place, self.shape, self.seen = place, shape, seen

    def forward(self, x: Tensor, passed: Passed) -> Tensor:
        self.seen.append((self.place, tuple(x.shape), self.shape))
        return x


@dataclass(frozen=True)
class Marker(Part):
    place: str
    seen: list

    def build(self, shape: PlaceShape) -> nn.Module:
        return Marked(self.place, shape, self.seen)


def test_every_place_sees_its_tensor_in_order():
    seen: list = []
    inside = Inside(**{field.name: Marker(field.name, seen) for field in fields(Inside)})
    layer(inside=inside, kernel="plain", num_kv_heads=1)(vectors())
    FeedForward(WIDTH, 20, "swiglu", inside=inside)(torch.randn(4, WIDTH))
    head = WIDTH // HEADS
    assert [(place, shape) for place, shape, _ in seen] == [
        ("query", (BATCH, HEADS, TOKENS, head)),
        ("key", (BATCH, 1, TOKENS, head)),
        ("value", (BATCH, 1, TOKENS, head)),
        ("turned", (BATCH, HEADS, TOKENS, head)),
        ("turned", (BATCH, 1, TOKENS, head)),
        ("scores", (BATCH, HEADS, TOKENS, TOKENS)),
        ("heads", (BATCH, HEADS, TOKENS, head)),
        ("joined", (BATCH, TOKENS, WIDTH)),
        ("inner", (4, 20)),
        ("gate", (4, 20)),
        ("activated", (4, 20)),
    ]
    for place, shape, told in seen:
        assert told.d_model == WIDTH
        if place != "scores":
            assert told.width == shape[-1]
        if len(shape) == 4 and place != "turned":
            assert told.heads == shape[1]


def test_a_kind_of_sublayer_is_asked_for_its_own_places_only():
    norm = NormPart(norm="rms")
    whole = Inside(value=norm, activated=norm)
    assert whole.of_kind("attention") == whole.of_kind("cross-attention") == Inside(value=norm)
    assert whole.of_kind("feedforward") == Inside(activated=norm)
    assert whole.of_kind("module") == whole.of_kind("parallel") == whole


@pytest.mark.parametrize("arrange", [Parallel, Composed])
def test_sublayers_under_one_connection_are_built_for_what_each_of_them_is(arrange):
    inside = Inside(value=NormPart(norm="rms"))
    built = [layer(inside=inside), FeedForward(WIDTH, inside=inside)]
    assert arrange(built).built_for == inside
    assert arrange([built[0], FeedForward(WIDTH)]).built_for == Inside()


def test_what_is_passed_on_can_be_rewound():
    context = Context()
    one, two = torch.zeros(1), torch.ones(1)
    context.passed_between("attention")["sum"] = one
    copy = context.passed_so_far()
    context.passed_between("attention")["sum"] = two
    context.passed_between("cross-attention")["sum"] = two
    context.rewind(copy)
    assert context.passed_between("attention")["sum"] is one
    assert not context.passed_between("cross-attention")
    assert not Context().passed


def test_unknown_kernels_are_refused():
    with pytest.raises(UserError, match="kernel"):
        AttentionOptions(kernel="flash")
