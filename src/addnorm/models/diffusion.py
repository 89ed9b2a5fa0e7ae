"""The diffusion Transformer: noisy pictures, their time and their class to what the noise is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from addnorm.choices import takes_fields_of
from addnorm.config import NEEDED, ModelConfig, model_config
from addnorm.errors import unknown
from addnorm.keywords import ModelKeywords
from addnorm.layers.context import Context
from addnorm.layers.lookup_table import LookupTable
from addnorm.layers.patches import PatchEmbedding, PatchGrid
from addnorm.layers.sublayer import built_for, stream_weights, value_paths
from addnorm.layers.views import Views
from addnorm.models.body import Body
from addnorm.models.grey_levels import LevelHead
from addnorm.models.noise import Noise
from addnorm.models.sublayers import build_stack
from addnorm.residual import Scheme
from addnorm.stack import Block, Later

if TYPE_CHECKING:
    from jaxtyping import Float, Int

Conditioning = Literal["tokens", "modulation"]
Head = Literal["levels", "linear"]
WAVES = 128
"""Sines, and as many cosines, of a time."""


class TimeEmbedding(nn.Module):
    """`W2 silu(W1 [sin(1000 t f_i), cos(1000 t f_i)])`, frequencies f from 1 down to 1e-4; as in DiT."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(2 * WAVES, d_model)
        self.fc2 = nn.Linear(d_model, d_model)

    def forward(self, times: Float[Tensor, "batch"]) -> Float[Tensor, "batch d_model"]:
        """One vector a time, which is from 0 to 1."""
        waves = torch.arange(WAVES, device=times.device, dtype=times.dtype)
        angles = 1000 * times[:, None] * (-math.log(1e4) * waves / WAVES).exp()
        return self.fc2(F.silu(self.fc1(torch.cat((angles.sin(), angles.cos()), dim=1))))


@dataclass(frozen=True, kw_only=True, eq=False)
class Conditioned(Context):
    """A forward pass's surroundings, with a vector that modulates the sublayers: `(batch, d_model)`."""

    condition: Tensor


class Modulated(nn.Module):
    """A sublayer that a condition steers: `gate(c) * F((1 + scale(c)) * x + shift(c))`; zero gates at the start.

    DiT's adaLN-zero (Peebles and Xie 2022, arXiv:2212.09748) without its norm, which is the scheme's: what the
    connection reads is normalised, or not, by then. Under Pre-LN the whole is adaLN-zero, whose norms have gains here.

    Args:
        sublayer: what is steered.
        d_model: the width.
    """

    def __init__(self, sublayer: nn.Module, d_model: int) -> None:
        super().__init__()
        self.sublayer = sublayer
        self.steer = nn.Linear(d_model, 3 * d_model)
        self.built_for = built_for(sublayer)

    def reset_parameters(self) -> None:
        """Nothing is steered at first."""
        nn.init.zeros_(self.steer.weight)
        nn.init.zeros_(self.steer.bias)

    def value_paths(self) -> list[tuple[nn.Linear, ...]]:
        """Those of the sublayer."""
        return value_paths(self.sublayer)

    def stream_weights(self) -> tuple[list[Tensor], list[Tensor]]:
        """Those of the sublayer."""
        return stream_weights(self.sublayer)

    def forward(self, x: Float[Tensor, "batch tokens d_model"] | Views, context: Conditioned) -> Tensor:
        """The sublayer's output, steered."""
        scale, shift, gate = self.steer(F.silu(context.condition))[:, None].chunk(3, dim=-1)
        steered = (
            Views(*((1 + scale) * each + shift for each in x)) if isinstance(x, Views) else (1 + scale) * x + shift
        )
        return gate * self.sublayer(steered, context)


class DiffusionTransformer(Body):
    """DiT: patches of a noisy picture, an encoder under any residual scheme, a linear map back to patches.

        tokens:      [time(t), class(y), W patch_i + b + P_i]     two tokens in front, DiT's in-context conditioning
        modulation:  [W patch_i + b + P_i], sublayers `Modulated` by time(t) + class(y)     DiT's adaLN-zero
        linear:      prediction = joined(W_out exit(stack(tokens)))
        levels:      prediction = what `noise` asks for, if the picture were joined(LevelHead(exit(stack(tokens)), z))

    Peebles and Xie 2022, arXiv:2212.09748. Conditions as tokens ask nothing of norms or connections, so they serve
    every scheme and are the default. Modulation is a wrapper of the sublayers and leaves norms and skips to the scheme;
    but its gates start at zero, so that under a scheme without a skip nothing would ever learn.

    Args:
        scheme: the residual scheme, or its text, such as "mhc(streams=4)".
        grid: size of the pictures and of the patches.
        conditioning: "tokens" or "modulation".
        head: "linear", or "levels" for pictures of 8-bit pixels.
        noise: the forward process; the head "levels" reads it.
        seed: of the initial weights.
        calibration: a batch as `forward` takes it, where the scheme needs it, or "later": see `Body.calibrate_`.
        shape: the fields of `addnorm.config.ModelConfig`; `vocab_size` is the number of classes and one, the last
            label, for no class. `tie_embeddings` and `max_tokens` have no meaning here.

    Raises:
        UserError: a field is unknown, missing or not allowed; the scheme needs a calibration and none came.

    Examples:
        >>> import torch, addnorm
        >>> grid = PatchGrid(height=8, width=8, channels=1, patch=2)
        >>> model = DiffusionTransformer("pre-norm", grid=grid, vocab_size=11, d_model=32, num_heads=4, num_layers=2)
        >>> model(torch.zeros(3, 8, 8, 1), torch.rand(3), torch.tensor([0, 9, 10])).shape
        torch.Size([3, 8, 8, 1])
    """

    reads = "(pictures, times, labels)"

    @takes_fields_of(ModelConfig, NEEDED)
    def __init__(
        self,
        scheme: Scheme | str,
        *,
        grid: PatchGrid,
        conditioning: Conditioning = "tokens",
        head: Head = "linear",
        noise: Noise | None = None,
        seed: int = 0,
        calibration: tuple[Tensor, Tensor, Tensor] | Later | None = None,
        **shape: Unpack[ModelKeywords],
    ) -> None:
        super().__init__(scheme, calibration)
        if conditioning not in ("tokens", "modulation"):
            raise unknown("conditioning", str(conditioning), ("tokens", "modulation"))
        if head not in ("levels", "linear"):
            raise unknown("head", str(head), ("levels", "linear"))
        self.config, self.grid = model_config(shape), grid
        self.conditioning, self.noise = conditioning, noise or Noise()
        self.embedding = PatchEmbedding(grid, self.config)
        self.time = TimeEmbedding(self.config.d_model)
        self.classes = LookupTable(self.config.vocab_size, self.config.d_model, "class")
        self.stack = build_stack(self.scheme, self.config, "encoder")
        if conditioning == "modulation":
            for block in self.stack.blocks:
                assert isinstance(block, Block)
                block.sublayer = Modulated(block.sublayer, self.config.d_model)
        build = LevelHead if head == "levels" else nn.Linear
        self.head = build(self.config.d_model, grid.values)
        self.start_(seed, calibration)

    def example(self) -> tuple[Tensor, ...]:
        like, grid = self.classes.weight, self.grid
        label = torch.tensor([self.none], device=like.device)
        return like.new_zeros(1, grid.height, grid.width, grid.channels), like.new_full((1,), 0.5), label

    @property
    def none(self) -> int:
        """The label for no class."""
        return self.config.vocab_size - 1

    def forward(
        self,
        noisy: Float[Tensor, "batch height width channels"],
        times: Float[Tensor, "batch"],
        labels: Int[Tensor, "batch"],
    ) -> Float[Tensor, "batch height width channels"]:
        """The prediction for each picture.

        Args:
            noisy: pictures with noise; their numbers from -1 to 1 before it.
            times: from 0, no noise, to 1.
            labels: classes, or `none`.
        """
        hidden = self.stack(*self._given(noisy, times, labels))[:, -self.grid.tokens :]
        if not isinstance(self.head, LevelHead):
            return self.grid.joined(self.head(hidden))
        patches = self.grid.cut(noisy)
        clean = self.head(hidden, patches, self.noise.rates(times, patches))
        return self.noise.prediction(noisy, times, self.grid.joined(clean))

    def _given(self, noisy: Tensor, times: Tensor, labels: Tensor) -> tuple[Tensor, Context]:
        """What the stack is given."""
        time, label = self.time(times), self.classes(labels)
        if self.conditioning == "tokens":
            return self.embedding(noisy, torch.stack((time, label), dim=1)), Context()
        return self.embedding(noisy), Conditioned(condition=time + label)
