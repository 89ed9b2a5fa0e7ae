"""Hyper-connections, static and dynamic: the paper's equations, and the package `hyper-connections`."""

from __future__ import annotations

import pytest
import torch
from hyper_connections import HyperConnections as Theirs
from torch import Tensor, nn

from addnorm import Stack, UserError
from addnorm.schemes.hyper_connections import HyperConnections
from addnorm.schemes.pre_norm import PreNorm
from addnorm.schemes.static_hyper_connections import StaticHyperConnections
from addnorm.stack import sites
from addnorm.testing.small_models import noise_like
from agreement import COMPARISONS, assert_agree, scatter_
from transcription import Parts, assert_agrees, norm

D, N = 8, 4


def equation(dynamic: bool, streams: int):
    """Equations 1 to 13 of the paper, stream by stream."""
    n = streams

    def compute(parts: Parts) -> Tensor:
        X = [parts.x] * n
        for F, p in zip(parts.F, parts.at, strict=True):
            read, mixing, gain = p["static"][:, 0], p["static"][:, 1:-1], p["static"][:, -1]
            A_m, A_r, B = list(read), [list(row) for row in mixing], list(gain)
            if dynamic:
                W_m, W_r, W_b = p["weight"][0], p["weight"][1:-1], p["weight"][-1]
                s_a, s_b = p["scale"]
                bars = [norm(x, p, "stream_norm", "rms" if p.kind == "rms" else "layer") for x in X]
                A_m = [
                    a + s_a * torch.tanh((bar * W_m).sum(-1, keepdim=True)) for a, bar in zip(A_m, bars, strict=True)
                ]
                A_r = [
                    [a + s_a * torch.tanh((bar * w).sum(-1, keepdim=True)) for a, w in zip(row, W_r, strict=True)]
                    for row, bar in zip(A_r, bars, strict=True)
                ]
                B = [b + s_b * torch.tanh((bar * W_b).sum(-1, keepdim=True)) for b, bar in zip(B, bars, strict=True)]
            y = F(norm(sum(A_m[i] * X[i] for i in range(n)), p, "norm"))
            X = [sum(A_r[i][j] * X[i] for i in range(n)) + B[j] * y for j in range(n)]
        return norm(sum(X), parts.exit, "norm", eps=1e-5 * len(X) ** 2)

    return compute


@pytest.mark.parametrize("kind", ["layer", "rms", "none"])
def test_the_dynamic_form_is_its_equation(kind):
    assert_agrees(HyperConnections(norm=kind, streams=3, scale=0.7), equation(True, 3))


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_the_static_form_is_its_equation(kind):
    assert_agrees(StaticHyperConnections(norm=kind, streams=3), equation(False, 3))


class Columns:
    """Our fused parameters as the package keeps them: two static, two dynamic, with the same meaning."""

    def __init__(self, connection: nn.Module) -> None:
        self.ours = connection

    @torch.no_grad()
    def copy_to(self, theirs: Theirs) -> None:
        static = self.ours.static
        theirs.static_alpha.copy_(static[:, :-1])
        theirs.static_beta.copy_(static[:, -1])
        if hasattr(self.ours, "weight"):
            theirs.dynamic_alpha_fn.copy_(self.ours.weight[:-1].T)
            theirs.dynamic_beta_fn.copy_(self.ours.weight[-1])
            theirs.dynamic_alpha_scale.copy_(self.ours.scale[0])
            theirs.dynamic_beta_scale.copy_(self.ours.scale[1])
            theirs.norm.gamma.copy_(self.ours.stream_norm.weight - 1)
        else:
            theirs.dynamic_alpha_scale.zero_()
            theirs.dynamic_beta_scale.zero_()


def stacks(scheme: HyperConnections | StaticHyperConnections, dtype: torch.dtype) -> tuple[Stack, list[Theirs]]:
    """Our stack far from the identity, and the package's connections with its weights."""
    torch.manual_seed(0)
    sublayers = [nn.Sequential(nn.Linear(D, 12), nn.GELU(), nn.Linear(12, D)) for _ in range(5)]
    stack = Stack(scheme, sublayers, D).to(dtype)
    # A seed whose first read weights do not cancel: the streams are copies there, so that only their sum is read, and a
    # read of RMS 0.03 multiplies what float32 rounds by 30, in the package as here.
    scatter_(stack, 0.3, seed=1)
    theirs = []
    for i, block in enumerate(stack.blocks):
        if hasattr(block.connection, "stream_norm"):
            block.connection.stream_norm.eps = 0.0  # the package divides by max(length, 1e-12)
        one = Theirs(N, dim=D, layer_index=i).to(dtype)
        Columns(block.connection).copy_to(one)
        theirs.append(one)
    return stack, theirs


@pytest.mark.parametrize(("look", "dtype", "tolerance"), COMPARISONS)
@pytest.mark.parametrize("dynamic", [True, False], ids=["dynamic", "static"])
def test_it_is_the_package_hyper_connections(dynamic, look, dtype, tolerance):
    scheme = HyperConnections(norm="rms", scale=0.7) if dynamic else StaticHyperConnections(norm="rms")
    stack, theirs = stacks(scheme, dtype)
    expand, reduce = Theirs.get_expand_reduce_stream_functions(N)
    x = noise_like(torch.empty(2, 3, D, dtype=dtype)).requires_grad_()

    def their_forward() -> Tensor:
        state = expand(x)
        for block, connection in zip(stack.blocks, theirs, strict=True):
            read, add = connection(state)
            state = add(block.sublayer(block.connection.norm(read)))
        return stack.exit.norm(reduce(state))

    shared = {"x": x} | {
        name: p for name, p in stack.named_parameters() if "sublayer" in name or ".norm." in name or "exit" in name
    }
    sites_of = list(enumerate(zip(stack.blocks, theirs, strict=True)))
    own = {f"static {i}": block.connection.static for i, (block, _) in sites_of}
    other = {f"alpha {i}": c.static_alpha for i, (_, c) in sites_of} | {
        f"beta {i}": c.static_beta for i, (_, c) in sites_of
    }
    if dynamic:
        own |= {f"weight {i}": block.connection.weight for i, (block, _) in sites_of}
        own |= {f"scale {i}": block.connection.scale for i, (block, _) in sites_of}
        own |= {f"gamma {i}": block.connection.stream_norm.weight for i, (block, _) in sites_of}
        for i, (_, c) in sites_of:
            other |= {f"Wa {i}": c.dynamic_alpha_fn, f"Wb {i}": c.dynamic_beta_fn, f"gamma {i}": c.norm.gamma}
            other |= {f"sa {i}": c.dynamic_alpha_scale, f"sb {i}": c.dynamic_beta_scale}
    ours, found = look(lambda: stack(x), shared | own), look(their_forward, shared | other)
    for i, _ in sites_of:
        alpha, beta = found.pop(f"alpha {i}"), found.pop(f"beta {i}")
        found[f"static {i}"] = torch.cat((alpha, beta[:, None]), dim=1)
        if dynamic:
            found[f"weight {i}"] = torch.cat((found.pop(f"Wa {i}").T, found.pop(f"Wb {i}")[None]))
            found[f"scale {i}"] = torch.stack((found.pop(f"sa {i}"), found.pop(f"sb {i}")))
    assert_agree(ours, found, tolerance)


@pytest.mark.parametrize("scheme", [HyperConnections(), StaticHyperConnections()], ids=["dynamic", "static"])
def test_it_starts_as_pre_norm_to_the_last_bit_where_streams_are_averaged(scheme):
    # By a power of two, so that the mean of equal streams is exact.
    scheme = type(scheme)(streams=4, reduce="mean")
    sublayers = [nn.Sequential(nn.Linear(D, 12), nn.GELU(), nn.Linear(12, D)) for _ in range(6)]
    x = noise_like(torch.empty(3, D))
    assert torch.equal(Stack(scheme, sublayers, D)(x), Stack(PreNorm(), sublayers, D)(x))


@pytest.mark.parametrize("scheme", [HyperConnections(), StaticHyperConnections()], ids=["dynamic", "static"])
def test_each_site_reads_its_own_stream_at_first(scheme):
    streams = noise_like(torch.empty(2, N, D))
    for index in range(6):
        connection = scheme.connection(D, sites(6)[index])
        read, _ = connection.read(streams)
        assert torch.equal(read, connection.norm(streams[:, index % N]))


def test_the_output_projection_is_rescaled_only_where_that_is_asked_for():
    class Path(nn.Sequential):
        def value_paths(self):
            return [(self[0], self[1])]

    torch.manual_seed(0)
    plain = Path(nn.Linear(D, D), nn.Linear(D, D))
    before = [p.clone() for p in plain.parameters()]
    Stack(HyperConnections(), [plain], D)
    assert all(torch.equal(p, old) for p, old in zip(plain.parameters(), before, strict=True))
    Stack(HyperConnections(output_factor=0.5), [plain], D)
    first, first_bias, last, last_bias = plain.parameters()
    assert torch.equal(first, before[0]) and torch.equal(first_bias, before[1]) and torch.equal(last_bias, before[3])
    assert torch.equal(last, 0.5 * before[2])
    assert HyperConnections(output_factor=0.5).starts_as() is None
    assert HyperConnections().starts_as() == PreNorm()


def test_a_sum_of_streams_is_no_start_as_pre_norm_without_a_final_norm():
    assert HyperConnections(norm="none").starts_as() is None
    assert HyperConnections(norm="none", reduce="mean").starts_as() == PreNorm(norm="none")
    assert HyperConnections(norm="none", reduce="head").starts_as() is None
    assert HyperConnections(reduce="head").starts_as() == PreNorm()  # of equal streams a head is a multiple


def test_mistakes_are_refused_when_the_scheme_is_made():
    for wrong, text in (
        ({"streams": 1}, "streams=1 is not allowed"),
        ({"streams": "4"}, "streams=4 is not allowed"),
        ({"reduce": "last"}, "reduce 'last' is unknown"),
        ({"scale": 0.0}, "scale=0.0 is not allowed"),
        ({"output_factor": -1.0}, "output_factor=-1.0 is not allowed"),
    ):
        with pytest.raises(UserError, match=text):
            HyperConnections(**wrong)
    with pytest.raises(UserError, match="streams=0 is not allowed"):
        StaticHyperConnections(streams=0)
