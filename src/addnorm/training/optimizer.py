"""AdamW with parameter groups by type, each group in one buffer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw  # its class imports torch's compiler, which takes 2 s

from addnorm.config import OptimizerRule, RunConfig
from addnorm.layers.inside import Parts
from addnorm.residual import Connection
from addnorm.stack import Block, Stack

BETAS = (0.9, 0.95)
"""Decay of the first and second moment; 0.95 as is usual for language models, since runs are short."""
EPSILON = 1e-8
"""Added to the root of the second moment."""
ALIGNMENT = 16
"""Elements: each parameter starts at a multiple of 64 bytes, as torch's own allocations do."""
MOMENTS = ("exp_avg", "exp_avg_sq")


def parameters_by_type(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Every parameter that is trained, in exactly one of three groups.

    connection: all that a scheme owns: what a `Connection` holds (gates, scales, mixing, the norms inside it), the
        parts that it asks for within sublayers, and the entrance and exit of a stack;
    matrix: parameters of two or more dimensions: the weights of linears;
    vector: gains, biases, embeddings.
    """
    groups: dict[str, list[nn.Parameter]] = {"matrix": [], "vector": [], "connection": []}
    inside = {id(p) for module in _of_schemes(model) for p in module.parameters()}
    tables = {id(p) for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    for parameter in model.parameters():  # a shared parameter comes once
        if not parameter.requires_grad:
            continue
        if id(parameter) in inside:
            groups["connection"].append(parameter)
        elif id(parameter) in tables or parameter.dim() < 2:
            groups["vector"].append(parameter)
        else:
            groups["matrix"].append(parameter)
    return {name: parameters for name, parameters in groups.items() if parameters}


def rules_of_schemes(model: nn.Module) -> dict[nn.Parameter, OptimizerRule]:
    """What the schemes ask of the optimizer for each parameter of a model; empty where there is no scheme."""
    rules: dict[nn.Parameter, OptimizerRule] = {}
    stacks = [module for module in model.modules() if isinstance(module, Stack)]
    for stack in stacks[:1]:  # the stacks of an encoder-decoder have one scheme
        rules |= dict.fromkeys(model.parameters(), stack.scheme.optimizer_rule(None))
    for stack in stacks:
        for site, block in zip(stack.sites, stack.blocks, strict=True):
            assert isinstance(block, Block)
            rules |= dict.fromkeys(block.sublayer.parameters(), stack.scheme.optimizer_rule(site))
            for name, parameter in block.connection.named_parameters():
                rules[parameter] = stack.scheme.optimizer_rule(site, name)
        for end, module in (("entrance", stack.entrance), ("exit", stack.exit)):
            for name, parameter in module.named_parameters():
                rules[parameter] = stack.scheme.optimizer_rule(None, f"{end}.{name}")
    return rules


def parameters_by_rule(model: nn.Module) -> dict[str, tuple[OptimizerRule, list[nn.Parameter]]]:
    """The groups of `parameters_by_type`, each parted by what its scheme asks: "matrix", "matrix-1", "matrix-2" ..."""
    rules, groups = rules_of_schemes(model), {}
    for kind, parameters in parameters_by_type(model).items():
        parted: dict[OptimizerRule, list[nn.Parameter]] = {}
        for parameter in parameters:
            parted.setdefault(rules.get(parameter, OptimizerRule()), []).append(parameter)
        for number, part in enumerate(parted.items()):
            groups[f"{kind}-{number}" if number else kind] = part
    return groups


class FlatBuffer:
    """Parameters moved into one buffer, and their gradients into another; each parameter becomes a view.

    Norm, clipping and AdamW are then one pass over a few buffers instead of several hundred calls over small tensors:
    0.7 ms a step where single parameters take 8.8 (24 layers of width 32, 387 parameters). A parameter without a
    gradient in a step has a gradient of zero.

    Between `clear` and `gather` a parameter has the gradient that backward made, or none: handing over a tensor costs
    backward a tenth of adding it to zeros.

    Args:
        parameters: all of one dtype; changed in place.
        weight_decay: of all of them.
        rule: factors on the learning rate and on eps.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], weight_decay: float, rule: OptimizerRule) -> None:
        self.weight_decay, self.rule = weight_decay, rule
        self.places: dict[nn.Parameter, slice] = {}
        end = 0
        for parameter in parameters:
            self.places[parameter] = slice(end, end + parameter.numel())
            end += -(-parameter.numel() // ALIGNMENT) * ALIGNMENT
        self.values = parameters[0].detach().new_zeros(end)
        self.gradient = torch.zeros_like(self.values)
        self.moments = {name: torch.zeros_like(self.values) for name in MOMENTS}
        self.steps = torch.zeros((), dtype=torch.float32)
        for parameter, place in self.places.items():
            self.values[place] = parameter.detach().flatten()
            parameter.data = self.values[place].view(parameter.shape)
            parameter.grad = self.gradient[place].view(parameter.shape)
        self._views = [parameter.grad for parameter in parameters]

    @torch.no_grad()
    def gather(self) -> None:
        """Let every parameter's gradient be its place in the buffer, with what backward has left."""
        places, made = [], []
        for parameter, view in zip(self.places, self._views, strict=True):
            assert view is not None
            if parameter.grad is None:
                view.zero_()
            elif parameter.grad is not view:
                places.append(view)
                made.append(parameter.grad)
            parameter.grad = view
        if made:
            torch._foreach_copy_(places, made)

    def show(self) -> None:
        """Let every parameter's gradient be its place in the buffer, as it is."""
        for parameter, view in zip(self.places, self._views, strict=True):
            parameter.grad = view

    def clear(self) -> None:
        """Let no parameter have a gradient."""
        for parameter in self.places:
            parameter.grad = None

    def step(self, learning_rate: float) -> None:
        """One step of AdamW."""
        self.gather()
        adamw(
            [self.values],
            [self.gradient],
            [self.moments["exp_avg"]],
            [self.moments["exp_avg_sq"]],
            [],
            [self.steps],
            fused=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=learning_rate * self.rule.learning_rate,
            weight_decay=self.weight_decay,
            eps=EPSILON * self.rule.eps,
            maximize=False,
        )


class Optimizer:
    """AdamW (Loshchilov and Hutter 2017, arXiv:1711.05101) over the groups of `parameters_by_rule`.

    Matrices decay, and what a scheme asks it for among its own parameters. A connection's learning rate has the factor
    `connection_learning_rate`, beside what its scheme asks for.

    Args:
        model: its parameters are moved into buffers, in place.
        config: weight decay, learning-rate factor.
    """

    def __init__(self, model: nn.Module, config: RunConfig) -> None:
        self.names = {parameter: name for name, parameter in model.named_parameters()}
        self.buffers = {}
        for name, (rule, parameters) in parameters_by_rule(model).items():
            kind = name.partition("-")[0]
            decays = kind == "matrix" or (kind == "connection" and rule.decays)
            decay = config.weight_decay * rule.weight_decay if decays else 0.0
            if kind == "connection":
                rule = replace(rule, learning_rate=rule.learning_rate * config.connection_learning_rate)
            self.buffers[name] = FlatBuffer(parameters, decay, rule)

    def gather(self) -> None:
        """Bring the gradients that backward has left into the buffers."""
        for buffer in self.buffers.values():
            buffer.gather()

    def show(self) -> None:
        """Let every parameter show what the buffers hold of its gradient."""
        for buffer in self.buffers.values():
            buffer.show()

    def gradient_norm(self) -> Tensor:
        """The norm of the whole gradient."""
        self.gather()
        return torch.linalg.vector_norm(torch.stack([buffer.gradient.norm() for buffer in self.buffers.values()]))

    def scale_gradient(self, factor: float) -> None:
        """Multiply the whole gradient."""
        self.gather()
        for buffer in self.buffers.values():
            buffer.gradient.mul_(factor)

    def clear_gradient(self) -> None:
        """Forget the whole gradient."""
        for buffer in self.buffers.values():
            buffer.clear()

    def step(self, learning_rate: float) -> None:
        """Move all parameters."""
        for buffer in self.buffers.values():
            buffer.step(learning_rate)

    def live(self) -> dict[str, Tensor]:
        """Weights, moments and step counts as they lie in the buffers, `values/GROUP`; no copies."""
        tensors: dict[str, Tensor] = {}
        for group, buffer in self.buffers.items():
            own = {"values": buffer.values, "steps": buffer.steps, **buffer.moments}
            tensors |= {f"{name}/{group}": tensor for name, tensor in own.items()}
        return tensors

    def tensors(self) -> dict[str, Tensor]:
        """The moments as `exp_avg/PARAMETER`, and the step counts as `steps/GROUP`; copies."""
        tensors: dict[str, Tensor] = {}
        for group, buffer in self.buffers.items():
            tensors[f"steps/{group}"] = buffer.steps.clone()
            for parameter, place in buffer.places.items():
                for name, moment in buffer.moments.items():
                    tensors[f"{name}/{self.names[parameter]}"] = moment[place].view(parameter.shape).clone()
        return tensors

    def load_(self, tensors: dict[str, Tensor]) -> None:
        """Continue where `tensors` left it."""
        for group, buffer in self.buffers.items():
            kind = group.partition("-")[0]  # all groups step together, and a scheme may have asked for fewer once
            buffer.steps.copy_(tensors.get(f"steps/{group}", tensors[f"steps/{kind}"]))
            for parameter, place in buffer.places.items():
                for name, moment in buffer.moments.items():
                    moment[place] = tensors[f"{name}/{self.names[parameter]}"].flatten()


def _of_schemes(model: nn.Module) -> Iterator[nn.Module]:
    for module in model.modules():
        if isinstance(module, (Connection, Parts)):
            yield module
        elif isinstance(module, Stack):
            yield from (module.entrance, module.exit)
