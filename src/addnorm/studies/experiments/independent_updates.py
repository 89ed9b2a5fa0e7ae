"""What a scheme's connections make of an embedding and of updates that are independent noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from addnorm.layers.initialise import generator_for
from addnorm.residual import Scheme
from addnorm.stack import sites

if TYPE_CHECKING:
    from jaxtyping import Float


class StreamPassage(NamedTuple):
    """The embedding, the stream after the last write, and what the exit made of it."""

    embedding: Float[Tensor, "tokens d_model"]
    stream: Float[Tensor, "tokens d_model"]
    hidden: Float[Tensor, "tokens d_model"]


@torch.no_grad()
def pass_noise(scheme: Scheme, depth: int, shape: tuple[int, int], seed: int) -> StreamPassage:
    """Run the connections of a fresh stack, with noise of RMS 1 in place of every sublayer's output.

    Args:
        scheme: whose connections.
        depth: how many sublayers.
        shape: tokens, width.
        seed: of embedding and noise.
    """
    d_model, generator = shape[1], generator_for(seed, "claims/noise")
    embedding = torch.randn(shape, generator=generator)
    state = scheme.entrance(d_model)(embedding)
    for site in sites(depth):
        connection = scheme.connection(d_model, site)
        _, skip = connection.read(state)
        state = connection.write(skip, torch.randn(shape, generator=generator))
    out = scheme.exit(d_model)
    return StreamPassage(embedding=embedding, stream=out.collapse(state), hidden=out(state))
