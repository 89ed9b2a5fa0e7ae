"""How close the fused add and norm comes to copying."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from addnorm.bench.alternation import alternate
from addnorm.bench.ratios import spread
from addnorm.bench.row import Figure, Goal, OnProgress, Result, Row, Times
from addnorm.kernels.add_norm import add_norm
from addnorm.kernels.norm_of_sum import NormOfSum

COPY = "copy"
FORWARD, BACKWARD = "forward", "backward"
# Tensors of the stream's size that must at least be read or written; a copy has two.
PASSES = {
    ("add + LayerNorm", FORWARD): 4,  # stream, update; sum, norm
    ("add + LayerNorm", BACKWARD): 4,  # sum, gradients of sum and norm; gradient
    ("add + RMSNorm", FORWARD): 4,
    ("add + RMSNorm", BACKWARD): 4,
    ("torch LayerNorm", FORWARD): 2,  # input; norm
    ("torch LayerNorm", BACKWARD): 3,  # input, gradient; gradient
    ("eager RMSNorm", FORWARD): 2,
    ("eager RMSNorm", BACKWARD): 3,
}
EPS = 1e-5


@dataclass(frozen=True, kw_only=True)
class AddNormBandwidth(Row):
    """The fused add and norm, forward and backward, as a share of copy bandwidth.

    What holds it back: at this size all tensors stay in the last cache, where a copy is fast and the four passes over a
    row in the first cache are no longer hidden behind memory; four times as many tokens, which come from memory, are
    nearer to the rate of a copy. Sums in one accumulator wait for each other.
    """

    rounds: int = 15
    tokens: int = 2048
    d_model: int = 512
    repeats: int = 20
    forward: Goal = Goal(target=0.9)
    backward: Goal = Goal(target=0.8)

    number: ClassVar[int] = 6
    title: ClassVar[str] = "fused add + norm against copying"
    measures: ClassVar[str] = (
        "Bytes that must be moved at least, a second, over the bytes a second of copying a tensor of the same size "
        "(2,048 tokens, d=512, float32) into one that exists. Forward: stream and update are read, sum and norm are "
        "written. Backward: the sum and the gradients of both are read, one gradient is written. Beside it torch's "
        "LayerNorm and an RMSNorm of torch operations, without the sum."
    )

    def measure(self, progress: OnProgress) -> Result:
        """All in turns, each several calls a turn."""
        times = alternate(self._arms(), self.rounds, progress)
        goals = {FORWARD: self.forward, BACKWARD: self.backward}
        figures = [
            _share(f"{name}, {way}", times, passes, goals[way] if name.startswith("add") else None)
            for (name, way), passes in PASSES.items()
        ]
        return Result(figures=tuple(figures), rounds=times)

    @classmethod
    def quick(cls) -> Self:
        """A few narrow tokens."""
        return cls(rounds=2, tokens=16, d_model=32, repeats=2)

    def _arms(self) -> dict[str, Callable[[], None]]:
        torch.manual_seed(0)
        x, y, g, h = torch.randn(4, self.tokens, self.d_model).unbind()
        weight, bias = torch.ones(self.d_model), torch.zeros(self.d_model)
        layer, rms = NormOfSum(eps=EPS, centred=True), NormOfSum(eps=EPS, centred=False)
        cases: dict[str, _Case] = {
            "add + LayerNorm": _Case(lambda x, y, w, b: add_norm(x, y, w, b, layer), (x, y, weight, bias), (g, h)),
            "add + RMSNorm": _Case(lambda x, y, w: add_norm(x, y, w, None, rms), (x, y, weight), (g, h)),
            "torch LayerNorm": _Case(lambda x, w, b: F.layer_norm(x, w.shape, w, b, EPS), (x, weight, bias), (g,)),
            "eager RMSNorm": _Case(_eager_rms_norm, (x, weight), (g,)),
        }
        target = torch.empty_like(x)
        arms = {COPY: self._repeated(lambda: target.copy_(x))}
        for name, case in cases.items():
            leaves = [tensor.clone().requires_grad_() for tensor in case.inputs]
            outputs = case.norm(*leaves)
            arms[f"{name}, {FORWARD}"] = self._repeated(partial(case.norm, *leaves))
            back = partial(torch.autograd.grad, outputs, leaves, case.gradients, retain_graph=True)
            arms[f"{name}, {BACKWARD}"] = self._repeated(back)
        return arms

    def _repeated(self, call: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(self.repeats):
                call()

        return run


@dataclass(frozen=True, eq=False)
class _Case:
    """A norm with what goes in and the gradients of what comes out."""

    norm: Callable[..., Any]
    inputs: tuple[Tensor, ...]
    gradients: tuple[Tensor, ...]


def _eager_rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    """As one would write it."""
    return x * (x.square().mean(-1, keepdim=True) + EPS).rsqrt() * weight


def _share(label: str, times: Mapping[str, Times], passes: int, goal: Goal | None) -> Figure:
    """The rate of moving the bytes that must be moved, over the rate of a copy, which has two passes."""
    cpu, wall = (
        [
            passes / 2 * copy / own
            for copy, own in zip(getattr(times[COPY], clock), getattr(times[label], clock), strict=True)
        ]
        for clock in ("cpu_s", "wall_s")
    )
    return Figure(label=label, value=spread(cpu), wall=spread(wall), goal=goal, unit="")
