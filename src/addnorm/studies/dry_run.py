"""What a comparison would cost, from its models and a few measured steps."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch

from addnorm.config import RunConfig
from addnorm.studies.compare import check, cores
from addnorm.studies.spec import Arm, CompareConfig, arms, runs
from addnorm.task import Problem
from addnorm.training.accumulation import BatchGradient
from addnorm.training.budget import Budget
from addnorm.training.cost import cost
from addnorm.training.initial import initial
from addnorm.training.optimizer import Optimizer

STEPS = 3
# A forward without backward, as a share of a step.
FORWARD = 1 / 3
# Importing torch and reading the text, once in each worker.
START_S = 5.0


def estimate(spec: CompareConfig) -> list[dict[str, Any]]:
    """What each arm would cost; nothing is written.

    Returns:
        An arm each: `id`, `scheme`, `layers`, `learning_rate`, `runs`, `parameters`, `connection_parameters`,
        `activation_bytes`, `flops_per_token`, `tokens` (of a run), `seconds` (of processor time, for all its runs).

    Raises:
        UserError: a scheme's field or the data are not as they must be.
    """
    problem = check(spec)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a worker
    try:
        first = [run for run in runs(spec) if run.config.seed == spec.seed]
        found = {run.arm.id: _estimate(run.arm, run.config, spec, problem) for run in first}
    finally:
        torch.set_num_threads(threads)
    return [found[arm.id] for arm in arms(spec)]


def total_wall_s(estimates: Sequence[dict[str, Any]], spec: CompareConfig) -> float:
    """Seconds the comparison would take on its workers."""
    return START_S + sum(row["seconds"] for row in estimates) / min(spec.workers or cores(), len(runs(spec)))


def _estimate(arm: Arm, config: RunConfig, spec: CompareConfig, problem: Problem) -> dict[str, Any]:
    model, _ = initial(problem, config)
    budget = Budget.of(config, problem.tokens_per_step)
    costs, step_s = cost(problem, model, config), _step_s(model, config, problem)
    evaluations = (config.evaluations + 1) * config.evaluation_tokens / budget.tokens_per_step * FORWARD * step_s
    training_s = budget.seconds if budget.seconds is not None else budget.steps * step_s
    return {
        "id": arm.id,
        "scheme": arm.scheme,
        "layers": arm.layers,
        "learning_rate": arm.learning_rate,
        "runs": spec.seeds,
        **costs,
        "tokens": budget.steps * budget.tokens_per_step if budget.seconds is None else None,
        "seconds": spec.seeds * (training_s + evaluations),
    }


def _step_s(model: torch.nn.Module, config: RunConfig, problem: Problem) -> float:
    """Processor seconds of a training step: the median of a few, after one that warms up."""
    optimizer, gradient = Optimizer(model, config), BatchGradient(config, problem)
    times = []
    for step in range(1 + STEPS):
        began = time.process_time()
        optimizer.clear_gradient()
        gradient.backward(model, problem.train_batch(step))
        optimizer.step(config.learning_rate)
        times.append(time.process_time() - began)
    return statistics.median(times[1:])
