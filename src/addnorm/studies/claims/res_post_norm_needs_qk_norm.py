"""With res-post-norm the attention's scores grow with the stream, unless queries and keys are normalised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from addnorm.models.decoder import Transformer
from addnorm.probes.signal import rms
from addnorm.studies.claim import Axes, Judgement, Measured, OnProgress, said
from addnorm.studies.experiments.fresh import FreshClaim
from addnorm.studies.experiments.lines import lines_over
from addnorm.studies.experiments.toy import Start, random_tokens, toy
from addnorm.studies.experiments.trend import power, ratio_of_ends

GROWS = 0.5
BOUNDED = 1.25


@dataclass(frozen=True, kw_only=True)
class ResPostNormNeedsQKNorm(FreshClaim):
    """`rms(q k^T / sqrt(d_head))` in the last attention before training, by depth.

    Args:
        depths: in layers.
    """

    depths: tuple[int, ...] = (4, 16, 64)

    title: ClassVar[str] = "Res-post-norm needs norms on queries and keys"
    statement: ClassVar[str] = (
        "Where the norm stands behind the sublayer, the attention reads the growing stream itself; norms on queries "
        "and keys (or a cosine) keep its scores from growing too."
    )
    number: ClassVar[str] = "both are used together in OLMo 2; Swin-V2 takes a scaled cosine; no figure"
    about: ClassVar[tuple[str, ...]] = ("res-post-norm",)
    reference: ClassVar[str] = "OLMo Team 2025, arXiv:2501.00656; Liu et al. 2021, arXiv:2111.09883"
    experiment: ClassVar[str] = (
        "Decoders of width 64 with 4, 16 and 64 layers before training, random tokens: scores of the last attention"
    )
    criterion: ClassVar[str] = (
        f"without QK-norm the scores' exponent of the depth is above {GROWS}, and with it they grow less than "
        f"{BOUNDED} times"
    )
    axes: ClassVar[Axes] = Axes(x="layers", y="RMS of the last attention's scores", log_x=True, log_y=True)

    def measure_at(self, start: Start, progress: OnProgress) -> Measured:
        """The scores by depth, with and without QK-norm."""

        def scores(qk_norm: str, depth: float, seed: int) -> float:
            return _scores(toy("res-post-norm", int(depth), seed, start, qk_norm=qk_norm), seed)

        labels = {"none": "without QK-norm", "rms": "with QK-norm"}
        return lines_over(labels, self.depths, self.seeds, progress, scores)

    def judge_at(self, measured: Measured) -> Judgement:
        """How both grow."""
        free, normed = power(measured["none"]), ratio_of_ends(measured["rms"])
        return Judgement(
            verdict="reproduced" if free.mean > GROWS and normed.mean < BOUNDED else "not reproduced",
            quantity="exponent of the depth in the scores without QK-norm",
            figure=free,
            sentence=f"Without QK-norm the last attention's scores go as L to the {said(free)}, to an RMS of "
            f"{said(measured['none'].last)} at {max(self.depths)} layers; with it they grow {said(normed)} times.",
        )


@torch.no_grad()
def _scores(model: Transformer, seed: int) -> float:
    """The RMS of the last attention's scores; rotary positions turn queries and keys and leave their sizes."""
    attention: Any = model.stack.blocks[-2].get_submodule("sublayer")
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
            seen[name] = output

        return hook

    handles = [getattr(attention, name).register_forward_hook(keep(name)) for name in ("q_norm", "k_norm")]
    model(random_tokens(seed)[0])
    for handle in handles:
        handle.remove()
    return float(rms(seen["q_norm"] @ seen["k_norm"].transpose(-1, -2)) / attention.d_head**0.5)
