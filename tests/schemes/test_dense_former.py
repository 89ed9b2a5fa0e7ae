"""DenseFormer: weighted averages over depth."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from addnorm import Stack, UserError
from addnorm.schemes.dense_former import DenseFormer
from addnorm.schemes.pre_norm import PreNorm
from addnorm.testing.small_models import small, tokens
from transcription import D_MODEL, Parts, assert_agrees, norm, real_sublayers


def equation(dilation: int, period: int):
    def compute(parts: Parts) -> Tensor:
        x, kept = parts.x, [parts.x]
        for layer in range(len(parts.F) // 2):
            p, q = parts.at[2 * layer : 2 * layer + 2]
            x = x + parts.F[2 * layer](norm(x, p, "norm"))
            x = x + parts.F[2 * layer + 1](norm(x, q, "norm"))
            kept.append(x)
            if (layer + 1) % period == 0:
                chosen = [y for j, y in enumerate(kept) if j % dilation == (layer + 1) % dilation]
                assert len(chosen) == len(q["weights"])
                x = torch.einsum("j,jbtd->btd", q["weights"], torch.stack(chosen))
        return norm(x, parts.exit, "norm")

    return compute


@pytest.mark.parametrize("kind", ["layer", "rms"])
@pytest.mark.parametrize(("dilation", "period"), [(1, 1), (2, 1), (3, 1), (1, 2), (2, 3)])
def test_it_is_its_equation(dilation, period, kind):
    scheme = DenseFormer(norm=kind, dilation=dilation, period=period)
    assert_agrees(scheme, equation(dilation, period), real_sublayers(5))


def test_at_first_it_is_pre_norm_bit_for_bit():
    assert torch.equal(small(DenseFormer(), num_layers=4)(tokens()), small(PreNorm(), num_layers=4)(tokens()))


@pytest.mark.parametrize(("dilation", "period", "weights"), [(1, 1, 90), (4, 1, 27), (4, 5, 5)])
def test_there_are_as_many_weights_as_the_paper_says(dilation, period, weights):
    """Sum over the layers l + 1 that are divisible by p of floor((l + 1) / k) + 1; here L = 12."""
    stack = Stack(DenseFormer(dilation=dilation, period=period), real_sublayers(12), D_MODEL)
    found = [p.numel() for name, p in stack.named_parameters() if name.endswith("connection.weights")]
    assert sum(found) == sum((i // dilation) + 1 for i in range(1, 13) if i % period == 0) == weights


def test_what_is_averaged_is_what_the_layers_put_out_not_what_they_were_given():
    """Averages of averages would be another scheme: after a layer of average zero the outputs must still be there."""
    stack = Stack(DenseFormer(), real_sublayers(2), D_MODEL)
    state = stack.entrance(torch.randn(1, 2, D_MODEL))
    with torch.no_grad():
        stack.blocks[1].connection.weights.zero_()
    for block in stack.blocks[:2]:
        state = block(state)
    stream, history = state
    assert (stream == 0).all()
    assert history[1].abs().max() > 0


def test_counts_below_one_are_refused():
    with pytest.raises(UserError, match="dilation"):
        DenseFormer(dilation=0)
    with pytest.raises(UserError, match="period"):
        DenseFormer(period=0)
