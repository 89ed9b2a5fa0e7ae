"""What a model and a step of its training cost."""

from __future__ import annotations

from typing import Any

from torch import nn

from addnorm.config import RunConfig
from addnorm.probes.flops import flops
from addnorm.probes.memory import activation_bytes
from addnorm.task import Problem
from addnorm.training.accumulation import BatchGradient, first_part
from addnorm.training.optimizer import parameters_by_type


def cost(problem: Problem, model: nn.Module, config: RunConfig | None = None) -> dict[str, Any]:
    """Parameters, those of the connections, bytes that a part of a batch keeps for backward, FLOPs a token.

    Args:
        problem: gives the batch.
        model: as `addnorm.training.initial.initial` makes it.
        config: of the run; None: the problem's.
    """
    config = config or problem.config
    batch = first_part(problem.train_batch(0), config)
    one = tuple(part[:1] for part in batch)
    with BatchGradient(config, problem).autocast():
        kept = activation_bytes(model, batch, problem.loss)
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "connection_parameters": sum(p.numel() for p in parameters_by_type(model).get("connection", [])),
        "activation_bytes": kept,
        "flops_per_token": flops(model, one, problem.loss) / problem.tokens_per_example,
    }
