"""Delta attention residuals: a mixture of earlier outputs beside the stream."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from addnorm import Stack, UserError
from addnorm.schemes.delta_attention_residuals import DeltaAttentionResiduals
from transcription import D_MODEL, Parts, assert_agrees, norm, real_sublayers


def equation(eps: float):
    def compute(parts: Parts) -> Tensor:
        x, deltas = parts.x, []
        for i, (F, p) in enumerate(zip(parts.F, parts.at, strict=True)):
            read, factor = x, 1.0
            if i:
                sources = [parts.x, *deltas]
                if "null" in p:
                    sources.append(p["null"] + torch.zeros_like(x))
                logits = [(p["query"] * v / (v.square().mean(-1, keepdim=True) + eps) ** 0.5).sum(-1) for v in sources]
                factor = 1 + 1 / len(sources)
                total = sum(logit.exp() for logit in logits)
                read = x + sum((logit.exp() / total)[..., None] * v for logit, v in zip(logits, sources, strict=True))
            deltas.append(F(norm(read, p, "norm", eps=1e-5 * factor**2)))
            x = x + deltas[-1]
        return norm(x, parts.exit, "norm")

    return compute


@pytest.mark.parametrize("kind", ["layer", "rms"])
@pytest.mark.parametrize("null", ["none", "learned"])
def test_it_is_its_equation(null, kind):
    assert_agrees(DeltaAttentionResiduals(norm=kind, null=null, eps=1e-4), equation(1e-4))


def test_the_sources_are_outputs_not_states():
    """Attention over cumulative states is what several public implementations took the scheme for."""
    stack = Stack(DeltaAttentionResiduals(), real_sublayers(2), D_MODEL)
    state = stack.entrance(torch.randn(1, 2, D_MODEL))
    for block in stack.blocks:
        state = block(state)
    stream, deltas = state
    assert len(deltas) == 5
    torch.testing.assert_close(sum(deltas), stream)


def test_at_first_the_mean_of_the_sources_is_read_beside_the_stream():
    connection = Stack(DeltaAttentionResiduals(norm="none"), real_sublayers(2), D_MODEL).blocks[2].connection
    x, sources = torch.randn(4, D_MODEL), tuple(torch.randn(4, D_MODEL) for _ in range(3))
    read, _ = connection.read((x, sources))
    torch.testing.assert_close(read, x + sum(sources) / 3)


def test_a_null_source_far_from_all_others_turns_the_mixture_off():
    connection = Stack(DeltaAttentionResiduals(norm="none", null="learned"), real_sublayers(1), D_MODEL)
    connection = connection.blocks[1].connection
    with torch.no_grad():
        connection.query.copy_(200 * torch.eye(D_MODEL)[0])
        connection.null.copy_(1e-2 * torch.eye(D_MODEL)[0])
    x, source = torch.randn(4, D_MODEL), torch.ones(4, D_MODEL)
    # 1e-2: what is left is the null source itself.
    torch.testing.assert_close(connection.read((x, (source,)))[0], x, atol=2e-2, rtol=0)


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match="null"):
        DeltaAttentionResiduals(null="zero")
    with pytest.raises(UserError, match="eps"):
        DeltaAttentionResiduals(eps=-1)
