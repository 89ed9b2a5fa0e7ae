"""ReZero's branches get no gradient in the first step, its gates do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from addnorm.studies.claim import Axes, Judgement, Measured, OnProgress, said
from addnorm.studies.experiments.fresh import FreshClaim
from addnorm.studies.experiments.lines import lines_over, values_of
from addnorm.studies.experiments.toy import Start, signal_flow, toy


@dataclass(frozen=True, kw_only=True)
class ReZeroStartsWithZeroGradients(FreshClaim):
    """`max_i || dL / dW_i ||` over the branches, and `min_i |dL / d a_i|` over the gates, before training.

    Args:
        depths: in layers.
    """

    depths: tuple[int, ...] = (4, 16, 64)

    title: ClassVar[str] = "ReZero's branches get exactly no gradient in the first step; its gates do"
    statement: ClassVar[str] = (
        "With gates at zero every sublayer starts as the identity: the gradients of all other parameters vanish at "
        "the beginning, and the gates alone begin to learn."
    )
    number: ClassVar[str] = "gradients of all parameters within the branches vanish; dynamical isometry at any depth"
    about: ClassVar[tuple[str, ...]] = ("rezero",)
    reference: ClassVar[str] = "Bachlechner et al. 2020, arXiv:2003.04887"
    experiment: ClassVar[str] = "Decoders of width 64 with 4, 16 and 64 layers, one backward on random tokens"
    criterion: ClassVar[str] = "the largest branch gradient is exactly 0 and the smallest gate gradient is not"
    axes: ClassVar[Axes] = Axes(x="layers", y="gradient norm", log_x=True)

    def measure_at(self, start: Start, progress: OnProgress) -> Measured:
        """The largest gradient of a branch and the smallest of a gate, by depth."""

        def gradient(name: str, depth: float, seed: int) -> float:
            model = toy("rezero", int(depth), seed, start)
            flow = signal_flow(model, seed)
            if name == "branches":
                return max(flow["weight_grad_norm"])
            gates = [gate for block in model.stack.blocks for gate in block.get_submodule("connection").parameters()]
            return min(0.0 if gate.grad is None else float(gate.grad.norm()) for gate in gates)

        labels = {"branches": "largest of the branches", "gates": "smallest of the gates"}
        return lines_over(labels, self.depths, self.seeds, progress, gradient)

    def judge_at(self, measured: Measured) -> Judgement:
        """Exactly zero, and not zero."""
        branch = max(values_of(measured["branches"]))
        gate = min(values_of(measured["gates"]))
        return Judgement(
            verdict="reproduced" if branch == 0 and gate > 0 else "not reproduced",
            quantity=f"largest branch gradient at {max(self.depths)} layers",
            figure=measured["branches"].last,
            sentence=f"The largest branch gradient at any depth is {branch:.3g}; the smallest gate gradient is "
            f"{gate:.2g} ({said(measured['gates'].last, 2)} at {max(self.depths)} layers).",
        )
