"""Admin, Beam, Muse Spark, tanh and erf against their authors' or vendors' modules."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import admin_torch
import torch
from torch import Tensor, nn
from transformers.models.beam.modeling_beam import depth_scaled_residual_add
from transformers.models.muse_spark.modeling_muse_spark import MuseSparkResidualGate
from x_transformers.x_transformers import Derf, DynamicTanh

from addnorm.layers.context import Context
from addnorm.layers.norm import make_norm
from oracles.case import WIDTH, Case, Layers, our_stack, vectors
from oracles.ties import Pair, Tie, randomise_, tied


class Merge(nn.Module):
    """Another implementation's norms and sum over sublayers that are ours, two layers of them."""

    def __init__(self, sublayers: list[nn.Module], parts: list[nn.ModuleDict], last: nn.Module | None) -> None:
        super().__init__()
        self.sublayers, self.parts = nn.ModuleList(sublayers), nn.ModuleList(parts)
        self.last = last or nn.Identity()


def admin(dtype: torch.dtype) -> Pair:
    """Omega as a parameter, and torch's LayerNorm after it."""
    ours = our_stack("admin", dtype, Layers())
    residuals = [admin_torch.as_module(4, as_parameter=True, embed_dim=WIDTH) for _ in range(4)]
    parts = [nn.ModuleDict({"sum": residual, "norm": nn.LayerNorm(WIDTH)}) for residual in residuals]
    theirs = _merge(ours, parts, None, dtype)

    def run(x: Tensor) -> Tensor:
        for F, part in zip(theirs.sublayers, theirs.parts, strict=True):
            x = part["norm"](part["sum"](x, F(x, Context(causal=True))))
        return x

    ties = []
    for block, part in zip(ours.blocks, theirs.parts, strict=True):
        ties += [*tied(block.connection.norm, part["norm"]), Tie(block.connection.omega, part["sum"].omega)]
    return _pair(ours, theirs, ties, run)


def beam(dtype: torch.dtype) -> Pair:
    """The sum of Beam between norms of torch."""
    ours = our_stack("beam", dtype, Layers())
    parts = [_two_norms(1e-6, 1e-6) for _ in ours.blocks]
    theirs = _merge(ours, parts, nn.RMSNorm(WIDTH, eps=1e-6), dtype)

    def run(x: Tensor) -> Tensor:
        for k, (F, part) in enumerate(zip(theirs.sublayers, theirs.parts, strict=True), start=2):
            x = depth_scaled_residual_add(part["post"](F(part["pre"](x), Context(causal=True))), x, k)
        return theirs.last(x)

    return _pair(ours, theirs, _norm_ties(ours, theirs), run)


def muse_spark(dtype: torch.dtype) -> Pair:
    """The gate of Muse Spark between norms of torch."""
    ours = our_stack("muse-spark", dtype, Layers())
    config = SimpleNamespace(hidden_size=WIDTH, residual_gate_temperature=0.3)
    parts = [_two_norms(1e-5, 1e-8) for _ in ours.blocks]
    for part in parts:
        part["gate"] = MuseSparkResidualGate(config)
    theirs = _merge(ours, parts, nn.RMSNorm(WIDTH, eps=1e-5), dtype)
    theirs.first = nn.RMSNorm(WIDTH, eps=1e-5, dtype=dtype)

    def run(x: Tensor) -> Tensor:
        x = theirs.first(x)
        for F, part in zip(theirs.sublayers, theirs.parts, strict=True):
            x = part["gate"](x, part["post"](F(part["pre"](x), Context(causal=True))))
        return theirs.last(x)

    ties = [*_norm_ties(ours, theirs), *tied(ours.entrance, theirs.first)]
    for block, part in zip(ours.blocks, theirs.parts, strict=True):
        ties.append(Tie(block.connection.gate, part["gate"].gate))
    return _pair(ours, theirs, ties, run)


def saturation(kind: str, dtype: torch.dtype) -> Pair:
    """The function that stands in for a norm, alone."""
    ours = make_norm(kind, WIDTH).to(dtype)
    theirs = (DynamicTanh(WIDTH, init_alpha=0.5) if kind == "tanh" else Derf(WIDTH)).to(dtype)
    randomise_(ours)
    ties = [Tie(ours.weight, theirs.gamma), Tie(ours.bias, theirs.beta)]
    ties.append(Tie(ours.alpha, theirs.pre_tanh_scale if kind == "tanh" else theirs.alpha, rows=...))
    if kind == "erf":
        ties.append(Tie(ours.shift, theirs.s, rows=...))
    return Pair(ours=ours, theirs=theirs, ties=ties, inputs=(vectors(dtype),), run_ours=ours, run_theirs=theirs)


def _two_norms(pre: float, post: float) -> nn.ModuleDict:
    return nn.ModuleDict({"pre": nn.RMSNorm(WIDTH, eps=pre), "post": nn.RMSNorm(WIDTH, eps=post)})


def _merge(ours: nn.Module, parts: list[nn.ModuleDict], last: nn.Module | None, dtype: torch.dtype) -> Merge:
    copies = our_stack("plain", dtype, Layers())
    return Merge([block.sublayer for block in copies.blocks], parts, last).to(dtype)


def _norm_ties(ours: nn.Module, theirs: Merge) -> list[Tie]:
    ties = tied(ours.exit.norm, theirs.last)
    for block, part in zip(ours.blocks, theirs.parts, strict=True):
        ties += tied(block.connection.input_norm, part["pre"]) + tied(block.connection.output_norm, part["post"])
    return ties


def _pair(ours: nn.Module, theirs: Merge, ties: list[Tie], run: object) -> Pair:
    for block, sublayer in zip(ours.blocks, theirs.sublayers, strict=True):
        other = dict(sublayer.named_parameters())
        ties += [Tie(parameter, other[name]) for name, parameter in block.sublayer.named_parameters()]
    return Pair(
        ours=ours,
        theirs=theirs,
        ties=ties,
        inputs=(vectors(ties[0].ours.dtype),),
        run_ours=lambda x: ours(x, Context(causal=True)),
        run_theirs=run,
    )


WHAT = "the sum with its norms, 2 layers, causal mask"
CASES = [
    Case(scheme="admin", oracle="admin-torch 0.1.0", what=WHAT, build=admin),
    Case(scheme="beam", oracle="transformers 5.23.0, Beam", what=WHAT, build=beam),
    Case(scheme="muse-spark", oracle="transformers 5.23.0, Muse Spark", what=WHAT, build=muse_spark),
    Case(scheme="dyt", oracle="x-transformers 2.31.10", what="the tanh alone", build=partial(saturation, "tanh")),
    Case(
        scheme="derf",
        oracle="x-transformers 2.31.10",
        what="the error function alone",
        build=partial(saturation, "erf"),
    ),
]
