"""What a scheme will do at a size, before it is trained: theory beside what a fresh model shows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from addnorm import tasks
from addnorm.config import RunConfig
from addnorm.probes.flops import flops
from addnorm.probes.mean_field import Prediction, predict
from addnorm.probes.memory import activation_bytes
from addnorm.probes.signal import SignalFlow, stack_of
from addnorm.probes.traffic import traffic
from addnorm.studies.spec import CompareConfig, runs
from addnorm.task import Problem
from addnorm.training.lr_range import RangeTest, Sweep, range_test
from addnorm.training.warm_up_test import WarmUpTest, warm_up_test

SOURCES = {
    "signal": "mean field: Yang and Schoenholz 2017, arXiv:1712.08969; uniform attention: Noci et al. 2022, "
    "arXiv:2206.03126",
    "warm_up": "amplification of updates: Liu et al. 2020, arXiv:2004.08249",
    "learning_rate": "range test: Smith 2015, arXiv:1506.01186",
}
"""Where each prediction is from."""
ADAM_BYTES = 16  # a parameter: weight, gradient, two moments, float32
SWEEP = Sweep(low=1e-4, high=1.0, points=200)
AMPLIFICATION = 2 * math.log(2)
"""From here on theory says warm-up: twice what Pre-LN has at any depth, and what six layers of Post-LN have."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Of one scheme at one depth.

    Args:
        scheme, layers: which.
        parameters: of the whole model.
        training_bytes: weights, gradients and Adam's moments, and what a batch keeps for the backward.
        activation_bytes: kept for the backward, a token.
        flops, traffic: of forward and backward, a token.
        predicted: by theory; None where there is none of what the scheme does inside its sublayers.
        measured: a fresh model's `state_rms`, `update_rms`, `state_grad_norm` by depth.
        rates: the range test; None where it was not asked for.
        warm_up: two short runs at the config's learning rate; None likewise.
    """

    scheme: str
    layers: int
    parameters: int
    training_bytes: int
    activation_bytes: float
    flops: float
    traffic: float
    predicted: Prediction | None
    measured: dict[str, list[float]]
    rates: RangeTest | None
    warm_up: WarmUpTest | None

    @property
    def largest_rate(self) -> float | None:
        """The last rate of the test before the loss rose again; None where it never fell."""
        return None if self.rates is None else self.rates.lowest

    @property
    def predicts_warm_up(self) -> bool | None:
        """Whether the amplification of updates is that of schemes which need a warm-up; None without a prediction."""
        return None if self.predicted is None else self.predicted.amplification > AMPLIFICATION


def forecast(
    spec: CompareConfig, *, train: bool = True, on_point: Callable[[int, int, float], None] | None = None
) -> list[Forecast]:
    """Each scheme of a comparison at each depth; nothing is written.

    Args:
        spec: schemes, depths, shape, data; the first learning rate is that of the warm-up test.
        train: whether the short runs are done, for rates and warm-up; without them it takes seconds.
        on_point: told the steps of each range test.

    Raises:
        UserError: a scheme's field or the data are not as they must be.
    """
    found: dict[tuple[str, int], RunConfig] = {}
    for run in runs(spec):
        found.setdefault((run.arm.scheme, run.arm.layers), run.config)
    order = [(scheme, layers) for layers in spec.layers for scheme in spec.schemes]
    return [_forecast(found[key], train, on_point) for key in order]


def _forecast(config: RunConfig, train: bool, on_point: Callable[[int, int, float], None] | None) -> Forecast:
    problem = tasks.prepare(config)
    model = problem.build()
    problem.calibrate_(model)
    batch = problem.train_batch(0)
    one, tokens = tuple(part[:1] for part in batch), problem.tokens_per_example
    kept = activation_bytes(model, batch, problem.loss)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    rates = range_test(config, SWEEP, on_point) if train else None
    return Forecast(
        scheme=config.scheme,
        layers=config.num_layers,
        parameters=parameters,
        training_bytes=ADAM_BYTES * parameters + kept,
        activation_bytes=kept / (len(batch[0]) * tokens),
        flops=flops(model, one, problem.loss) / tokens,
        traffic=traffic(model, one, problem.loss) / tokens,
        predicted=predict(model, one, problem.loss),
        measured=_measured(model, one, problem),
        rates=rates,
        warm_up=warm_up_test(config, config.learning_rate) if train else None,
    )


def _measured(model: torch.nn.Module, batch: Any, problem: Problem) -> dict[str, list[float]]:
    stack = stack_of(model)
    if stack is None:
        return {}
    model.eval()
    with torch.enable_grad(), SignalFlow(stack) as flow:
        problem.loss(model, batch).backward()
    return flow.forward_and_backward()
