"""He 2015: a skip needs two layers or more to go around; over a single one it brings no advantage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from addnorm import schemes
from addnorm.layers.initialise import generator_for, initialise_
from addnorm.stack import Stack
from addnorm.studies.claim import Axes, Claim, Judgement, Line, Measured, OnProgress, said
from addnorm.studies.experiments.paired import better_by, last_difference

EFFECT = 0.02


@dataclass(frozen=True, kw_only=True)
class ASkipOverOneLayerBringsNothing(Claim):
    """The error of nets of equal linears and nonlinearities whose skips go around 1, 2 or 4 of them, or around none.

    The error is the mean squared error over the variance of a random teacher's output.

    Args:
        linears: in the net; each is followed by a nonlinearity.
        spans: linears that one skip goes around.
        d_model: the width.
        steps: of training.
        batch: vectors in a step.
    """

    linears: int = 16
    spans: tuple[int, ...] = (1, 2, 4)
    d_model: int = 32
    steps: int = 400
    batch: int = 64

    title: ClassVar[str] = "A skip around a single layer brings nothing, around two it does"
    statement: ClassVar[str] = (
        "A skip goes around two or three layers, or more; around a single one the net is like one of linear layers, "
        "and no advantage was observed."
    )
    number: ClassVar[str] = "no advantage observed; no figure"
    about: ClassVar[tuple[str, ...]] = ("pre-norm", "plain")
    reference: ClassVar[str] = "He et al. 2015, arXiv:1512.03385"
    experiment: ClassVar[str] = (
        "16 linears of width 32, a GELU after each, learn a random 3-layer teacher from 400 steps of 64 vectors, AdamW "
        "at 0.002; Pre-LN's connection after every nonlinearity (1), every sublayer (2), every block (4); and none"
    )
    embedding: ClassVar[str] = "random vectors of RMS 1"
    criterion: ClassVar[str] = (
        "the skip around two lowers the error of the net without skips with its interval, the skip around one does not"
    )
    axes: ClassVar[Axes] = Axes(x="step", y="error, share of the variance", log_y=True)

    def measure(self, progress: OnProgress) -> Measured:
        """The error on new vectors by step."""
        arms = {**{str(span): ("pre-norm", span) for span in self.spans}, "none": ("plain", 2)}
        lines = {}
        for number, (name, (scheme, span)) in enumerate(arms.items(), start=1):
            paths = [dict(self._errors(scheme, span, seed)) for seed in range(self.seeds)]
            label = "no skip" if name == "none" else f"skip around {span}"
            lines[name] = Line(label=label, points={x: tuple(path[x] for path in paths) for x in paths[0]})
            progress(number / len(arms))
        return lines

    def judge(self, measured: Measured) -> Judgement:
        """What skips around one and around two gain over none."""
        gains = {name: last_difference(line, measured["none"]) for name, line in measured.items() if name != "none"}
        helps = {name: better_by(gain, EFFECT) == "reproduced" for name, gain in gains.items()}
        ends = ", ".join(f"{line.label} {said(line.last)}" for line in measured.values())
        return Judgement(
            verdict="reproduced" if helps["2"] and not helps["1"] else "not reproduced",
            quantity="error with a skip around one linear minus error without skips",
            figure=gains["1"],
            sentence=f"After {self.steps} steps the error is: {ends}.",
        )

    def _errors(self, scheme: str, span: int, seed: int) -> Iterator[tuple[int, float]]:
        """Step and error of one net."""
        parts = [nn.Sequential(*self._linears(span)) for _ in range(self.linears // span)]
        stack, teacher = Stack(schemes.get(scheme)(), parts, self.d_model), nn.Sequential(*self._linears(3))
        net = nn.Sequential(stack, nn.Linear(self.d_model, self.d_model))
        initialise_(net, seed)
        initialise_(teacher, seed)
        generator, x = generator_for(seed, "claims/vectors"), self._vectors(generator_for(seed, "claims/new"), 1024)
        optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
        for step in range(self.steps + 1):
            if step % max(self.steps // 8, 1) == 0:
                yield step, _error(net, teacher, x)
            optimizer.zero_grad()
            batch = self._vectors(generator, self.batch)
            _loss(net, teacher, batch).backward()
            optimizer.step()

    def _linears(self, count: int) -> list[nn.Module]:
        return [part for _ in range(count) for part in (nn.Linear(self.d_model, self.d_model), nn.GELU())]

    def _vectors(self, generator: torch.Generator, count: int) -> Tensor:
        return torch.randn(count, self.d_model, generator=generator)


def _loss(net: nn.Module, teacher: nn.Module, x: Tensor) -> Tensor:
    """The squared error over the variance of the teacher."""
    with torch.no_grad():
        wanted = teacher(x)
    return F.mse_loss(net(x), wanted) / wanted.var()


@torch.no_grad()
def _error(net: nn.Module, teacher: nn.Module, x: Tensor) -> float:
    return float(_loss(net, teacher, x))
