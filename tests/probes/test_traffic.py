"""Bytes that operations read and write, against a count by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from addnorm.probes.traffic import ByteCount, traffic


def test_an_operation_reads_its_inputs_and_writes_its_output_and_a_view_moves_nothing() -> None:
    x = torch.ones(10, 4)
    with ByteCount([]) as count:
        x + x[:1].expand(10, 4)  # 40 floats each: what a broadcast reads is counted as often as it is read
    assert count.total == 3 * 40 * 4
    with ByteCount([]) as count:
        x.view(4, 10).mT[:2]
    assert count.total == 0


def test_weights_are_left_out() -> None:
    model = nn.Linear(8, 4, bias=False)
    x = torch.ones(10, 8)
    with torch.no_grad(), ByteCount(list(model.parameters())) as count:
        model(x)
    assert count.total == (10 * 8 + 10 * 4) * 4


def test_a_step_moves_in_proportion_to_its_tokens() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.GELU())

    def loss(model: nn.Module, x: Tensor) -> Tensor:
        return model(x).square().sum()

    few, many, most = (traffic(model, torch.ones(n, 8), loss) for n in (10, 20, 30))
    assert many - few == most - many > 0
    assert all(parameter.grad is None for parameter in model.parameters())
