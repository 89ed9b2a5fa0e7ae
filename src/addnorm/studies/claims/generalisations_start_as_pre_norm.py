"""Schemes that say they start as Pre-LN do, in value and in gradient."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch

from addnorm.studies.claim import Axes, Judgement, Measured, OnProgress
from addnorm.studies.experiments.fresh import FreshClaim
from addnorm.studies.experiments.lines import lines_over, values_of
from addnorm.studies.experiments.toy import Start, loss_of, output_weight, random_tokens, toy

EQUAL = 1e-8
"""Relative, in float64: coefficients that were drawn in float32 sum to one up to 1e-8, and a norm's eps sees it."""
CONTROL = "mhc-lite"
NEARLY = "identity-hc"
"""Starts near Pre-LN and nobody says that it starts there: its projections must not be zero."""
CANDIDATES = (
    "hyper-connections",
    "static-hyper-connections",
    "mhc",
    "attention-residuals",
    "block-attention-residuals",
    "delta-attention-residuals",
    "dense-former",
    "gpas",
)


@dataclass(frozen=True, kw_only=True)
class GeneralisationsStartAsPreNorm(FreshClaim):
    """`max |logits - logits_pre| / max |logits_pre|` and the same of every sublayer's output gradient.

    Args:
        depths: in layers.
        candidates: the schemes that shall start as Pre-LN.
    """

    depths: tuple[int, ...] = (2, 6, 12)
    seeds: int = 3
    candidates: tuple[str, ...] = CANDIDATES

    title: ClassVar[str] = "HC, mHC, Attention Residuals, DenseFormer and GPAS start as Pre-LN"
    statement: ClassVar[str] = (
        "Initialised as described, these generalisations compute what Pre-LN computes until training moves them."
    )
    number: ClassVar[str] = "equal; HC's initialisation is given for that very purpose (its equation 14)"
    about: ClassVar[tuple[str, ...]] = (*CANDIDATES, NEARLY, CONTROL)
    reference: ClassVar[str] = (
        "Zhu et al. 2024, arXiv:2409.19606; Xie et al. 2025, arXiv:2512.24880; Pagliardini et al. 2024, "
        "arXiv:2402.02622; Chen et al. 2025, arXiv:2506.22049"
    )
    experiment: ClassVar[str] = (
        "Decoders of width 64 with 2, 6 and 12 layers: each scheme beside Pre-LN from the same sublayers, on random "
        "tokens; logits and gradients of all output weights, in float64 and with the norms' own eps of 1e-5"
    )
    criterion: ClassVar[str] = (
        f"no logit and no gradient differs by more than {EQUAL:g} of the largest, and those of {CONTROL}, which starts "
        "as another function, do"
    )
    axes: ClassVar[Axes] = Axes(x="layers", y="largest relative difference from Pre-LN", log_y=True)

    def measure_at(self, start: Start, progress: OnProgress) -> Measured:
        """The larger of the two differences, by scheme and depth."""
        labels = {name: name for name in (*self.candidates, NEARLY, CONTROL)}
        return lines_over(labels, self.depths, self.seeds, progress, partial(_difference, start))

    def judge_at(self, measured: Measured) -> Judgement:
        """The worst scheme at its worst depth, and the control at its best."""
        worst = {name: max(values_of(line)) for name, line in measured.items() if name not in (NEARLY, CONTROL)}
        last = max(worst, key=lambda name: worst[name])
        unequal = [f"{name} ({figure:.2g})" for name, figure in worst.items() if not figure <= EQUAL]
        control = min(values_of(measured[CONTROL]))
        ends = f"; not equal: {', '.join(unequal)}" if unequal else ""
        return Judgement(
            verdict="reproduced" if not unequal and control > EQUAL else "not reproduced",
            quantity=f"relative difference of {last} from Pre-LN at {max(self.depths)} layers",
            figure=measured[last].last,
            sentence=f"The largest relative difference in a logit or a gradient is {worst[last]:.1e} ({last}){ends}; "
            f"that of {CONTROL} is at least {control:.2g}, that of {NEARLY}, which is only near, at most "
            f"{max(values_of(measured[NEARLY])):.1e}.",
        )


def _difference(start: Start, name: str, depth: float, seed: int) -> float:
    """The larger of the relative differences in value and in gradient."""
    ours, theirs = (_logits_and_gradients(scheme, int(depth), seed, start) for scheme in (name, "pre-norm"))
    pairs = zip(ours, theirs, strict=True)
    return max(float((one - other).abs().max() / other.abs().max()) for one, other in pairs)


def _logits_and_gradients(name: str, depth: int, seed: int, start: Start) -> list[torch.Tensor]:
    model = toy(name, depth, seed, start).double()
    inputs, labels = random_tokens(seed)
    loss_of(model, inputs, labels).backward()
    weights = [output_weight(model, sublayer) for sublayer in range(len(model.stack.blocks))]
    with torch.no_grad():
        return [model(inputs), *(weight.grad for weight in weights if weight.grad is not None)]
