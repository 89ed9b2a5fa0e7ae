"""The model of a run before its first step."""

from __future__ import annotations

from torch import nn

from addnorm.config import RunConfig
from addnorm.interop.start import Started, start_from
from addnorm.stack import Stack
from addnorm.task import Problem


def initial(problem: Problem, config: RunConfig | None = None) -> tuple[nn.Module, Started | None]:
    """A model with its first weights, and what it took of earlier ones.

    Also before a checkpoint is put in place: what is frozen depends on what is loaded here.

    Args:
        problem: builds and calibrates it.
        config: of the run; None: the problem's.

    Raises:
        UserError: the shape is not allowed, or there is nothing to start from that fits.
    """
    config = config or problem.config
    model = problem.build(config)
    for module in model.modules():
        if isinstance(module, Stack):
            module.checkpointing, module.rebuilding = config.memory == "checkpoint", config.memory == "rebuild"
    started = start_from(model, config.init, task=config.task)
    if started is None or started.has_new_connections:
        problem.calibrate_(model)
    return model, started
