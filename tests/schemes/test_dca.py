"""DCA: sums of the layers' outputs by feature, one each for queries, keys and values."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from addnorm import Stack, UserError
from addnorm.layers.views import Views
from addnorm.schemes.dca import Dca
from addnorm.schemes.pre_norm import PreNorm
from addnorm.stack import sites
from addnorm.testing.small_models import small, tokens
from transcription import D_MODEL, Parts, assert_agrees, norm, real_sublayers

KINDS = ("attention", "feedforward")


def sums(outputs: list[Tensor], p: dict[str, Tensor], name: str, eps: float) -> list[Tensor]:
    found = []
    for w, bias in zip(p[f"{name}.query"], p[f"{name}.bias"], strict=True):
        total = 0.0
        for y, b in zip(outputs, bias, strict=True):
            score = (w * y / (y.square().mean(-1, keepdim=True) + eps) ** 0.5).sum(-1, keepdim=True)
            total = total + y * (b + score.clamp_min(0))
        found.append(total)
    return found


def equation(ends: int, eps: float, views: int):
    def chosen(outputs: list[Tensor]) -> list[Tensor]:
        return outputs if not ends or len(outputs) < 2 * ends else [*outputs[:ends], *outputs[-ends:]]

    def compute(parts: Parts) -> Tensor:
        outputs = [parts.x]
        for i in range(0, len(parts.F), 2):
            p, q = parts.at[i : i + 2]
            read = sums(chosen(outputs), p, "inward", eps)
            assert len(read) == views
            normed = [norm(one, p, f"norms.{n}") for n, one in enumerate(read)]
            attended = parts.F[i](Views(*normed) if views == 3 else normed[0])
            outputs.append(attended + parts.F[i + 1](norm(read[0] + attended, q, "norms.0")))
        (x,) = sums(chosen(outputs), parts.at[-1], "outward", eps)
        return norm(x, parts.exit, "norm")

    return compute


@pytest.mark.parametrize("kind", ["layer", "rms"])
@pytest.mark.parametrize(("kinds", "views"), [(KINDS, 3), (("module",), 1)])
@pytest.mark.parametrize("ends", [0, 1, 2])
def test_it_is_its_equation(ends, kinds, views, kind):
    # A wide start of w: relu must be seen on both sides.
    assert_agrees(Dca(norm=kind, ends=ends, std=0.5, eps=1e-4), equation(ends, 1e-4, views), real_sublayers(4), kinds)


def test_with_w_at_zero_and_all_outputs_read_it_is_pre_norm():
    scheme = Dca(ends=0, std=0.0)
    # 1e-5: the stream is summed up anew at every layer, in another order.
    ours, theirs = (small(one, num_layers=4)(tokens()) for one in (scheme, PreNorm(norm="rms")))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("ends", "kept"), [(0, 9), (1, 2), (2, 4), (3, 6)])
def test_no_more_outputs_are_kept_than_are_read(ends, kept):
    stack = Stack(Dca(ends=ends), real_sublayers(8), D_MODEL, sites(16, kinds=KINDS))
    state = stack.entrance(torch.randn(1, 2, D_MODEL))
    for block in stack.blocks:
        state = block(state)
    assert len(state[2]) == kept


def test_the_weights_start_as_in_the_package():
    torch.manual_seed(0)
    connection = Stack(Dca(), real_sublayers(2), 12, sites(4, kinds=KINDS)).blocks[2].connection
    assert connection.inward.bias.shape == (3, 2, 12)
    assert (connection.inward.bias == 1).all()
    # 36 draws: their standard deviation is within 50 % of 0.01 but for one case in 10^5.
    assert connection.inward.query.std().item() == pytest.approx(0.01, rel=0.5)


def test_what_cannot_be_is_refused():
    for name in ("ends", "std", "eps"):
        with pytest.raises(UserError, match=name):
            Dca(**{name: -1})
