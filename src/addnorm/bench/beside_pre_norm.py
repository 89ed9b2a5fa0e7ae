"""Schemes beside our own Pre-LN: step time, and bytes that the forward keeps for the backward."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from addnorm.bench.alternation import alternate, ratio
from addnorm.bench.language_models import Precision, Size, loss, our_model, our_step
from addnorm.bench.ratios import spread
from addnorm.bench.row import Figure, Goal, OnProgress, Times
from addnorm.layers.context import Context
from addnorm.layers.norm import LayerNorm
from addnorm.probes.memory import activation_bytes
from addnorm.stack import Block

PRE_LN = "pre-norm"
STREAMS, ITERATIONS = 4, 20
MHC = f"mhc(streams={STREAMS}, iterations={ITERATIONS})"
NARROW = Size(d_model=32, num_layers=2, num_heads=2, vocab_size=64, batch=2, context=16)


def step_times(
    models: Mapping[str, nn.Module], size: Size, precision: Precision, rounds: int, progress: OnProgress
) -> dict[str, Times]:
    """Training steps in turns."""
    return alternate({name: our_step(model, size, precision) for name, model in models.items()}, rounds, progress)


def over_pre_ln(times: Mapping[str, Times], goals: Mapping[str, Goal | None], where: str) -> list[Figure]:
    """The step time of each over that of Pre-LN."""
    return [ratio(f"{name}, {where}", times[name], times[PRE_LN], goal) for name, goal in goals.items()]


def bytes_over_pre_ln(builders: Mapping[str, Callable[[], nn.Module]], size: Size) -> dict[str, float]:
    """Bytes saved for backward over those of Pre-LN; counted, so they do not vary."""
    counted = {name: _bytes(build(), size) for name, build in {PRE_LN: lambda: our_model(size), **builders}.items()}
    return {name: counted[name] / counted[PRE_LN] for name in builders}


def counted(label: str, value: float, goal: Goal | None) -> Figure:
    """A figure that was counted."""
    return Figure(label=label, value=spread([value]), goal=goal)


def _bytes(model: nn.Module, size: Size) -> int:
    return activation_bytes(model.train(), size.tokens(), loss)


class HyperConnectionsDecoder(nn.Module):
    """Our embedding, sublayers, norms and head with the streams of the package `hyper-connections` around them."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        from hyper_connections.manifold_constrained_hyper_connections import (
            get_init_and_expand_reduce_stream_functions,
        )

        ours = our_model(size)
        self.embedding, self.head, self.norm = ours.embedding, ours.head, LayerNorm(size.d_model)
        around, self.expand, self.reduce = get_init_and_expand_reduce_stream_functions(
            STREAMS, dim=size.d_model, sinkhorn_iters=ITERATIONS
        )
        sublayers = [block.sublayer for block in ours.stack.blocks if isinstance(block, Block)]
        self.layers = nn.ModuleList(
            around(branch=_Normed(size.d_model, sublayer), layer_index=place)
            for place, sublayer in enumerate(sublayers)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits."""
        positions = self.embedding.place(tokens)
        streams, context = self.expand(self.embedding(tokens, positions)), Context(causal=True)
        for layer in self.layers:
            streams = layer(streams, context)
        return self.head(self.norm(self.reduce(streams)), self.embedding.tokens)


class _Normed(nn.Module):
    """A sublayer after its norm."""

    def __init__(self, d_model: int, sublayer: nn.Module) -> None:
        super().__init__()
        self.norm, self.sublayer = LayerNorm(d_model), sublayer

    def forward(self, x: Tensor, context: Context) -> Tensor:
        return self.sublayer(self.norm(x), context)
