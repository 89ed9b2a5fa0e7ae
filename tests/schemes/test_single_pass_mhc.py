"""Single-pass mHC: its equation, and that a site's read is the one before's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from addnorm import Stack, UserError
from addnorm.layers.feedforward import FeedForward
from addnorm.schemes.deepseek_mhc import DeepseekMHC
from addnorm.schemes.single_pass_mhc import SinglePassMHC
from addnorm.stack import sites
from addnorm.testing.small_models import noise_like
from transcription import Parts, assert_agrees, norm


def coefficients(X: Tensor, p: dict[str, Tensor], rounds: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of one token: the weights of the next read, the gains, and `C` as it is stored."""
    n, flat = len(X), X.reshape(-1)
    normed = flat / (flat @ flat / len(flat) + 1e-6) ** 0.5
    a, b = p["coefficients.alpha"], p["coefficients.bias"]
    logits = p["coefficients.phi"] @ normed
    pre = 1 / (1 + torch.exp(-(a[0] * logits[:n] + b[:n]))) + 1e-6
    post = 2 / (1 + torch.exp(-(a[1] * logits[n : 2 * n] + b[n : 2 * n])))
    C = torch.exp((a[2] * logits[2 * n :] + b[2 * n :]).reshape(n, n))
    C = C / C.sum(1)[:, None] + 1e-6
    C = C / (C.sum(0) + 1e-6)
    for _ in range(rounds - 1):
        C = C / (C.sum(1)[:, None] + 1e-6)
        C = C / (C.sum(0) + 1e-6)
    return pre, post, C


def equation(n: int, rounds: int):
    def compute(parts: Parts) -> Tensor:
        batch, tokens, width = parts.x.shape
        states = [torch.stack([x] * n) for x in parts.x.reshape(-1, width)]
        h = [torch.tensor([1.0] + [0.0] * (n - 1), dtype=parts.x.dtype) for _ in states]
        for F, p in zip(parts.F, parts.at, strict=True):
            of = [coefficients(X, p, rounds) for X in states]
            read = torch.stack([w @ X for w, X in zip(h, states, strict=True)]).reshape(batch, tokens, width)
            y = F(norm(read, p, "norm")).reshape(-1, width)
            states = [
                torch.stack([post[k] * u + sum(C[j, k] * X[j] for j in range(n)) for k in range(n)])
                for (_, post, C), X, u in zip(of, states, y, strict=True)
            ]
            h = [pre for pre, _, _ in of]
        last = torch.stack([w @ X for w, X in zip(h, states, strict=True)])
        return norm(last.reshape(batch, tokens, width), parts.exit, "norm")

    return compute


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_it_is_its_equation(kind):
    # Four rounds of Sinkhorn: the transcription goes token by token. The kernel is tested with 20.
    scheme = SinglePassMHC(norm=kind, streams=3, iterations=4, alpha=0.9, diagonal=0.5, projection_std=0.4)
    assert_agrees(scheme, equation(3, 4))


def site() -> tuple[torch.nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    connection = SinglePassMHC(alpha=0.9, projection_std=0.4).connection(8, sites(4)[1])
    streams = noise_like(torch.empty(2, 4, 8))
    return connection, streams, noise_like(torch.empty(2, 4), seed=5)


def test_a_site_reads_as_the_one_before_says():
    connection, streams, weights = site()
    read, _ = connection.read((streams, weights))
    expected = connection.norm(torch.einsum("ti,tid->td", weights, streams))
    torch.testing.assert_close(read, expected, rtol=1e-5, atol=1e-6)  # float32 sums of 4 terms


def test_the_next_read_is_predicted_from_the_streams_before_the_write():
    connection, streams, weights = site()
    _, skip = connection.read((streams, weights))
    following = [connection.write(skip, size * noise_like(torch.empty(2, 8)))[1] for size in (0.0, 9.0)]
    assert torch.equal(*following)
    assert torch.equal(connection.read((streams, 2 * weights))[1][2], following[0])
    assert not torch.equal(connection.read((streams.flip(1), weights))[1][2], following[0])


def test_it_differs_from_the_two_pass_form_of_the_same_weights():
    torch.manual_seed(0)
    sublayers = [FeedForward(8) for _ in range(4)]
    one = Stack(SinglePassMHC(alpha=0.9, projection_std=0.4), sublayers, 8)
    two = Stack(DeepseekMHC(alpha=0.9, projection_std=0.4, reduce="sum"), sublayers, 8)
    two.blocks.load_state_dict(one.blocks.state_dict())
    x = noise_like(torch.empty(3, 8))
    assert (one(x) - two(x)).abs().max() > 0.1


def test_another_reduction_is_refused():
    with pytest.raises(UserError, match="reduce=head is not allowed.*use deepseek-mhc"):
        SinglePassMHC(reduce="head")


@pytest.mark.parametrize("stream", range(4))
def test_every_stream_counts(stream):
    """Between layers nothing may fall back to one stream."""
    torch.manual_seed(0)
    stack = Stack(SinglePassMHC(alpha=0.9, projection_std=0.4), [FeedForward(8) for _ in range(4)], 8)
    streams, weights = noise_like(torch.empty(3, 4, 8)), noise_like(torch.empty(3, 4), seed=5)
    other = streams.clone()
    other[:, stream] += noise_like(torch.empty(3, 8), seed=6)
    outcomes = []
    for state in ((streams, weights), (other, weights)):
        for block in stack.blocks[2:]:
            state = block(state)
        outcomes.append(stack.exit(state))
    assert (outcomes[0] - outcomes[1]).abs().max() > 1e-3
