"""LAuReL of Gemma 3n and DCA's sums against the vendor's and the package's modules."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from deep_cross_attention import GRN
from torch import Tensor, nn
from transformers.models.gemma3n.modeling_gemma3n import Gemma3nRMSNorm, Gemma3nTextLaurelBlock

from addnorm.layers.context import Context
from addnorm.schemes.dca import GeneralisedResidual
from oracles.case import WIDTH, Case, Layers, our_stack, vectors, with_eps_
from oracles.ties import Pair, Tie, randomise_, tied

NORMS = ("input_norm", "output_norm")


class GemmaLayers(nn.Module):
    """Gemma 3n's norms and low-rank block around sublayers that are ours, two layers of them."""

    def __init__(self, sublayers: list[nn.Module], rank: int) -> None:
        super().__init__()
        config = SimpleNamespace(hidden_size=WIDTH, laurel_rank=rank, rms_norm_eps=1e-6)
        self.sublayers = nn.ModuleList(sublayers)
        self.norms = nn.ModuleList(
            nn.ModuleDict({name: Gemma3nRMSNorm(WIDTH, eps=1e-6) for name in NORMS}) for _ in sublayers
        )
        self.laurels = nn.ModuleList(Gemma3nTextLaurelBlock(config) for _ in sublayers[::2])
        self.last = Gemma3nRMSNorm(WIDTH, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """The order of its decoder layer, without AltUp and per-layer inputs."""
        for i, (F, norms) in enumerate(zip(self.sublayers, self.norms, strict=True)):
            normed = norms["input_norm"](x)
            summed = x + norms["output_norm"](F(normed, Context(causal=True)))
            x = summed if i % 2 else (summed + self.laurels[i // 2](normed)) / 2**0.5
        return self.last(x)


def gemma_laurel(dtype: torch.dtype) -> Pair:
    """Two layers with their norms."""
    ours, rank = our_stack("gemma-laurel(rank=3)", dtype, Layers()), 3
    theirs = GemmaLayers([block.sublayer for block in our_stack("plain", dtype, Layers()).blocks], rank).to(dtype)
    ties = tied(ours.exit.norm, theirs.last)
    for i, (block, norms, sublayer) in enumerate(zip(ours.blocks, theirs.norms, theirs.sublayers, strict=True)):
        ties += [tie for name in NORMS for tie in tied(getattr(block.connection, name), norms[name])]
        if not i % 2:
            laurel = theirs.laurels[i // 2]
            ties += tied(block.connection.down, laurel.linear_left) + tied(block.connection.up, laurel.linear_right)
            ties += tied(block.connection.laurel_norm, laurel.post_laurel_norm)
        other = dict(sublayer.named_parameters())
        ties += [Tie(parameter, other[name]) for name, parameter in block.sublayer.named_parameters()]
    return Pair(
        ours=ours,
        theirs=theirs,
        ties=ties,
        inputs=(vectors(dtype),),
        run_ours=lambda x: ours(x, Context(causal=True)),
        run_theirs=theirs,
    )


def sums_of_outputs(dtype: torch.dtype) -> Pair:
    """Three sums of four outputs; the gain of its norm, which ours leaves to w, is one."""
    ours = GeneralisedResidual(WIDTH, 4, 3, std=0.5, eps=torch.finfo(dtype).eps).to(dtype)
    theirs = GRN(WIDTH, num_layers=4, num_outputs=3).to(dtype)
    randomise_(ours)
    norm, linear = theirs.to_aggregate[0], theirs.to_aggregate[1]
    with_eps_(norm, torch.finfo(dtype).eps)
    return Pair(
        ours=ours,
        theirs=theirs,
        ties=[Tie(ours.query, linear.weight), Tie(ours.bias, theirs.bias)],
        inputs=tuple(vectors(dtype, seed=seed) for seed in range(1, 5)),
        run_ours=lambda *outputs: torch.stack(ours(outputs)),
        run_theirs=lambda *outputs: theirs(torch.stack(outputs)),
        unused=[norm.weight],
    )


CASES = [
    Case(
        scheme="gemma-laurel",
        oracle="transformers 5.23.0, Gemma 3n",
        what="its norms and low-rank block, 2 layers, causal mask",
        build=gemma_laurel,
    ),
    Case(scheme="dca", oracle="deep-cross-attention 0.1.1", what="the sums of outputs alone", build=sums_of_outputs),
]
