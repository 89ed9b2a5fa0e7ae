"""Small models before training: random tokens in, gradients out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from addnorm import schemes
from addnorm.layers.initialise import InitRule, generator_for
from addnorm.models.decoder import Transformer
from addnorm.probes.signal import SignalFlow

if TYPE_CHECKING:
    from jaxtyping import Int

VOCABULARY = 64


class Beginning(NamedTuple):
    """Initial weights, and the RMS of the embedding: None leaves what the rule draws."""

    init: InitRule
    rms: float | None
    text: str


Start = Literal["unit", "xavier", "normal"]
STARTS: Mapping[Start, Beginning] = {
    "unit": Beginning("xavier", 1.0, "an embedding of RMS 1"),
    "xavier": Beginning("xavier", None, "the models' own embedding (RMS 1/sqrt(d))"),
    "normal": Beginning("normal", None, 'init="normal" (all weights and the embedding N(0, 0.02^2))'),
}
"""Theories start from a stream of unit variance; models' embeddings have a twentieth of that and less."""


def toy(scheme: str, num_layers: int, seed: int, start: Start, **shape: Any) -> Transformer:
    """A fresh decoder, by default of width 64 with 4 heads and a head of its own."""
    wanted: dict[str, Any] = {"vocab_size": VOCABULARY, "d_model": 64, "num_heads": 4, "tie_embeddings": False} | shape
    beginning = STARTS[start]
    model = Transformer(schemes.parse(scheme), seed=seed, num_layers=num_layers, init=beginning.init, **wanted)
    if beginning.rms is not None:
        with torch.no_grad():
            table = model.embedding.tokens.weight
            table.mul_(beginning.rms / table.square().mean().sqrt())
    return model


def random_tokens(seed: int, batch: int = 8, tokens: int = 32) -> tuple[Int[Tensor, "b t"], Int[Tensor, "b t"]]:
    """Tokens and labels drawn evenly: what a gradient before training sees of a text is little more."""
    generator = generator_for(seed, "claims/tokens")
    drawn = torch.randint(VOCABULARY, (2, batch, tokens), generator=generator)
    return drawn[0], drawn[1]


def loss_of(model: Transformer, inputs: Tensor, labels: Tensor) -> Tensor:
    """The mean cross entropy."""
    return F.cross_entropy(model(inputs).flatten(0, -2), labels.flatten())


def signal_flow(model: Transformer, seed: int) -> dict[str, list[float]]:
    """What the probe `signal` measures in one forward and backward on random tokens; gradients stay on the model."""
    model.zero_grad(set_to_none=True)
    with SignalFlow(model.stack) as flow:
        loss_of(model, *random_tokens(seed)).backward()
        return flow.forward_and_backward()


@torch.no_grad()
def stream_rms(model: Transformer, seed: int) -> list[float]:
    """The stream's RMS before every sublayer and at the exit, on random tokens."""
    with SignalFlow(model.stack) as flow:
        model(random_tokens(seed)[0])
        return flow.forward_and_backward()["state_rms"]


def output_weight(model: Transformer, sublayer: int) -> Tensor:
    """The weight of a sublayer's output projection."""
    block: Any = model.stack.blocks[sublayer]
    return block.sublayer.value_paths()[0][-1].weight


def first_over_last_gradient(model: Transformer, seed: int) -> float:
    """The gradient norm of the first feed-forward's output weight over that of the last."""
    signal_flow(model, seed)
    first, last = output_weight(model, 1).grad, output_weight(model, -1).grad
    assert first is not None and last is not None
    return float(first.norm() / last.norm())
