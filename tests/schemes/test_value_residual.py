"""Value residual: its equation, who mixes with whom, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from addnorm import EncoderDecoder, Stack, Transformer, UserError, schemes
from addnorm.layers.attention import Attention, AttentionOptions
from addnorm.layers.context import Context
from addnorm.layers.feedforward import FeedForward
from addnorm.schemes.value_residual import ValueResidual
from addnorm.stack import sites
from addnorm.testing.small_models import tokens
from inside_transcription import (
    D_HEAD,
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


def equation(share: float):
    def compute(net: Net) -> Tensor:
        x, first = net.x, None
        for layer in net.layers:
            p = layer.attention
            read = norm(x, layer.attention_connection, "norm")
            values = linear(read, p, "v_proj")
            if first is None:
                first = values
            else:
                one, two = p["inside.value.weights"] if "inside.value.weights" in p else (share, 1 - share)
                values = one * first + two * values
            mixed = [
                probabilities(turned(q) @ turned(k).mT / D_HEAD**0.5) @ v
                for q, k, v in zip(
                    heads_of(linear(read, p, "q_proj")),
                    heads_of(linear(read, p, "k_proj")),
                    heads_of(values),
                    strict=True,
                )
            ]
            x = x + linear(torch.cat(mixed, dim=-1), p, "o_proj")
            x = x + feedforward(norm(x, layer.feedforward_connection, "norm"), layer.feedforward)
        return norm(x, net.exit, "norm")

    return compute


@pytest.mark.parametrize("mix", ["fixed", "learned"])
@pytest.mark.parametrize("share", [0.5, 0.2])
@pytest.mark.parametrize("kernel", ["fused", "plain"])
def test_it_is_its_equation(mix, share, kernel):
    assert_inside_agrees(ValueResidual(mix=mix, share=share), equation(share), attention=kernel)


def test_half_of_each_is_the_default_and_the_first_layer_mixes_nothing():
    model = Transformer(ValueResidual(mix="learned"), **SHAPE)
    weights = {path: p for path, p in model.named_parameters() if ".inside." in path}
    assert sorted(weights) == [f"stack.blocks.{site}.sublayer.inside.value.weights" for site in (2, 4)]
    assert all(torch.equal(p, torch.tensor([0.5, 0.5])) for p in weights.values())


def test_grouped_heads_mix_too():
    fixed, learned = (Transformer(ValueResidual(mix=m), num_kv_heads=2, **SHAPE) for m in ("fixed", "learned"))
    torch.testing.assert_close(fixed(tokens()), learned(tokens()))


def test_cross_attentions_mix_with_the_first_cross_attention():
    model = EncoderDecoder(ValueResidual(), **SHAPE).double().eval()
    source, target = tokens(2, 5), tokens(2, 4)
    model(source, target)
    first = model.decoder.blocks[1].sublayer.v_proj
    memory = model.encode(source).detach()
    logits = model.decode(target, memory)
    with torch.no_grad():
        first.weight.zero_()
        first.bias.zero_()
        # The values of the later ones are now half of their own: as if their projections were halved.
        without = model.decode(target, memory)
        plain = EncoderDecoder(schemes.get("pre-norm")(), **SHAPE).double().eval()
        plain.load_state_dict(model.state_dict())
        for site in (3, 4, 6, 7):
            attention = plain.decoder.blocks[site].sublayer
            if site in (4, 7):
                attention.v_proj.weight.mul_(0.5)
                attention.v_proj.bias.mul_(0.5)
        for site in (3, 6):
            _mix_by_hand_(plain, model, site)
    assert not torch.allclose(logits, without)
    torch.testing.assert_close(plain.decode(target, memory), without)


def _mix_by_hand_(plain: EncoderDecoder, mixed: EncoderDecoder, site: int) -> None:
    """Let a self-attention of the plain model mix its values with the first one's by a hook."""
    kept = {}
    plain.decoder.blocks[0].sublayer.v_proj.register_forward_hook(lambda _, __, values: kept.update(first=values))
    plain.decoder.blocks[site].sublayer.v_proj.register_forward_hook(
        lambda _, __, values: 0.5 * kept["first"] + 0.5 * values
    )


def test_sublayers_that_are_not_built_for_it_are_refused():
    sublayers = [Attention(16, 4), FeedForward(16)] * 2
    with pytest.raises(UserError, match=r"sublayer 0 \(Attention\) is not built for what ValueResidual asks"):
        Stack(ValueResidual(), sublayers, 16, sites(4, 2, ("attention", "feedforward")))


def test_a_stack_of_ones_own_attentions_passes_values_without_a_context():
    scheme, places = ValueResidual(), sites(3, 1, ("attention",))
    sublayers = [Attention(16, 4, AttentionOptions(inside=scheme.inside(site))) for site in places]
    stack, x = Stack(scheme, sublayers, 16, places), torch.randn(2, 5, 16)
    assert torch.equal(stack(x), stack(x, Context()))


def test_it_must_begin_in_the_first_layer():
    with pytest.raises(UserError, match="needs the first layer's values.*begin in the first layer"):
        Transformer(schemes.parse("by-layer(first=pre-norm, share=0.5, rest=value-residual)"), **SHAPE)


def test_unknown_mixes_and_shares_are_refused():
    with pytest.raises(UserError, match="mix"):
        ValueResidual(mix="gate")
    with pytest.raises(UserError, match="share=nan"):
        ValueResidual(share=float("nan"))
    with pytest.raises(UserError, match="changes the values too"):
        ValueResidual(inner=ValueResidual())
