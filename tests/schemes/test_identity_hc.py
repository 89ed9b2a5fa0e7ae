"""Identity-HC: its equation, and HY-V4's connection and head."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from transformers.models.hy_v4.modeling_hy_v4 import HYV4HyperConnection, HYV4HyperHead

from addnorm import Stack, UserError
from addnorm.schemes.identity_hc import IdentityHC
from addnorm.schemes.pre_norm import PreNorm
from addnorm.stack import sites
from addnorm.testing.small_models import noise_like
from agreement import COMPARISONS, assert_agree, scatter_
from oracles.wide import Wide
from transcription import Parts, assert_agrees, norm

D, N = 8, 4


def gates(X: list[Tensor], weight: Tensor, scales: list[Tensor], bias: Tensor) -> list[Tensor]:
    flat = torch.cat(X, dim=-1)
    normed = flat / (flat.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return [
        1 / (1 + (-(s * (normed * w).sum(-1, keepdim=True) + b)).exp())
        for s, w, b in zip(scales, weight, bias, strict=True)
    ]


def equation(parts: Parts) -> Tensor:
    n = 3
    X = [parts.x] * n
    for F, p in zip(parts.F, parts.at, strict=True):
        both = gates(X, p["phi"], [p["alpha"][0]] * n + [p["alpha"][1]] * n, p["bias"])
        y = F(norm(sum((g + 1e-6) * x for g, x in zip(both[:n], X, strict=True)), p, "norm"))
        X = [x + (2 * g + 1e-6) * y for g, x in zip(both[n:], X, strict=True)]
    head = gates(X, parts.exit["weight"], [parts.exit["scale"]] * n, parts.exit["bias"])
    return norm(sum((g + 1e-6) * x for g, x in zip(head, X, strict=True)), parts.exit, "norm")


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_it_is_its_equation(kind):
    assert_agrees(IdentityHC(norm=kind, streams=3, alpha=0.8, projection_std=0.3), equation)


@pytest.mark.parametrize(("look", "dtype", "tolerance"), COMPARISONS)
def test_it_is_the_connection_and_the_head_of_hy_v4(look, dtype, tolerance):
    torch.manual_seed(0)
    sublayers = [nn.Sequential(nn.Linear(D, 12), nn.GELU(), nn.Linear(12, D)) for _ in range(5)]
    stack = Stack(IdentityHC(alpha=0.8, projection_std=0.3), sublayers, D).to(dtype)
    scatter_(stack, 0.2)
    config = SimpleNamespace(hc_mult=N, hc_eps=1e-6, rms_norm_eps=1e-5, hidden_size=D, hc_magnitude=2.0)
    theirs = [HYV4HyperConnection(config).to(dtype) for _ in stack.blocks]
    head = HYV4HyperHead(config).to(dtype)
    with torch.no_grad():
        for block, one in zip(stack.blocks, theirs, strict=True):
            one.fn.copy_(block.connection.phi)
            one.base.copy_(block.connection.bias)
            one.scale.copy_(block.connection.alpha)
        head.hc_fn.copy_(stack.exit.weight)
        head.hc_base.copy_(stack.exit.bias)
        head.hc_scale.copy_(stack.exit.scale)
    x = noise_like(torch.empty(2, 3, D, dtype=dtype)).requires_grad_()

    def their_forward() -> Tensor:
        state = x.unsqueeze(-2).repeat(1, 1, N, 1)
        for block, one in zip(stack.blocks, theirs, strict=True):
            post, read = one(state)
            y = block.sublayer(block.connection.norm(read))
            state = post.unsqueeze(-1) * y.unsqueeze(-2) + state
        return stack.exit.norm(head(state))

    shared = {"x": x} | {name: p for name, p in stack.named_parameters() if "sublayer" in name or "norm." in name}
    own, other = {}, {}
    for i, (block, one) in enumerate(zip(stack.blocks, theirs, strict=True)):
        c = block.connection
        own |= {f"phi {i}": c.phi, f"bias {i}": c.bias, f"alpha {i}": c.alpha}
        other |= {f"phi {i}": one.fn, f"bias {i}": one.base, f"alpha {i}": one.scale}
    own |= {"head": stack.exit.weight, "head bias": stack.exit.bias, "head scale": stack.exit.scale}
    other |= {"head": head.hc_fn, "head bias": head.hc_base, "head scale": head.hc_scale}
    ours = look(lambda: stack(x), shared | own)
    with Wide() if dtype == torch.float64 else nullcontext():
        found = look(their_forward, shared | other)
    found["head scale"] = found["head scale"][0]
    assert_agree(ours, found, tolerance)


def test_without_its_projections_it_is_pre_norm_to_the_eps_of_its_gates():
    sublayers = [nn.Sequential(nn.Linear(D, 12), nn.GELU(), nn.Linear(12, D)) for _ in range(6)]
    ours = Stack(IdentityHC(), sublayers, D).double()
    x = noise_like(torch.empty(3, D, dtype=torch.float64))
    expected = Stack(PreNorm(), sublayers, D).double()(x)
    # 0.006 * sqrt(nd) * 0.01 in every logit.
    assert 1e-6 < (ours(x) - expected).abs().max() < 1e-2
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            if name.endswith(("phi", "exit.weight")):
                parameter.zero_()
    torch.testing.assert_close(ours(x), expected, rtol=1e-5, atol=1e-5)  # 1e-6 on each gate


def test_an_unmixed_stream_carries_the_embedding_unchanged():
    connection = IdentityHC().connection(D, sites(2)[0])
    streams = noise_like(torch.empty(3, N, D))
    _, skip = connection.read(streams)
    assert torch.equal(connection.write(skip, torch.zeros(3, D)), streams)


def test_mistakes_are_refused_when_the_scheme_is_made():
    for wrong, text in (
        ({"streams": 1}, "streams=1 is not allowed"),
        ({"projection_std": 0.0}, "projection_std=0.0 is not allowed"),
        ({"magnitude": -2.0}, "magnitude=-2.0 is not allowed"),
        ({"eps": -1e-6}, "eps=-1e-06 is not allowed"),
    ):
        with pytest.raises(UserError, match=text):
            IdentityHC(**wrong)
