"""An autoregressive model of pictures: patch after patch, and within a patch pixel after pixel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from addnorm.checks import check_count, check_heads
from addnorm.choices import takes_fields_of
from addnorm.config import NEEDED, ModelConfig, model_config
from addnorm.keywords import ModelKeywords
from addnorm.layers.cache import KVCache
from addnorm.layers.context import Context
from addnorm.layers.lookup_table import LookupTable
from addnorm.layers.patches import PatchGrid
from addnorm.models.body import Body
from addnorm.models.sampling import Sampling
from addnorm.models.sublayers import build_stack
from addnorm.residual import Scheme
from addnorm.stack import Later, Stack

if TYPE_CHECKING:
    from jaxtyping import Float, Int


@dataclass(frozen=True, kw_only=True)
class Within:
    """The decoder within a patch.

    Args:
        width: of its stream.
        heads: of its attention; must divide the width.
        layers: how many.

    Raises:
        UserError: a number is below 1, or the heads do not divide the width.
    """

    width: int = 32
    heads: int = 2
    layers: int = 2

    def __post_init__(self) -> None:
        for name in ("width", "heads", "layers"):
            check_count(name, getattr(self, name))
        check_heads(self.width, self.heads, self.heads)


class PatchDecoder(Body):
    """Exact likelihood of a picture's grey levels given its class, by two causal stacks under one residual scheme.

        p(picture | class) = prod_i prod_j p(level_ij | class, patches before i, levels before j of patch i)

        over patches:    outlook_1..n = exit(stack([class, patch_1 .. patch_(n-1)] + P))
        within patch i:  hidden_i1..im = exit(within(V_j outlook_i + E[level_i(j-1)] + Q_j)),   logits_ij = W hidden_ij

    Patches follow each other from left to right and from top to bottom, and so do the pixels of a patch. A patch enters
    the first stack as one linear map of its pixels' embeddings E. The two scales are MEGABYTE's (Yu et al. 2023,
    arXiv:2305.07185); attention over m patches of n pixels costs m^2 + m n^2 instead of (m n)^2. Patches of one pixel
    are a decoder over pixels (Chen et al. 2020, image GPT) with a head of a few layers.

    Args:
        scheme: the residual scheme of both stacks, or its text.
        grid: size of the pictures and of the patches.
        classes: how many classes there are.
        within: the decoder within a patch.
        seed: of the initial weights.
        calibration: (levels, labels) of a typical batch, where the scheme needs it, or "later": see `Body.calibrate_`.
        shape: the fields of `addnorm.config.ModelConfig`; `vocab_size` is the number of grey levels.
            `tie_embeddings` and `max_tokens` have no meaning here.

    Raises:
        UserError: a field is unknown, missing or not allowed; the scheme needs a calibration and none came.

    Examples:
        >>> import torch, addnorm
        >>> grid = PatchGrid(height=8, width=8, channels=1, patch=4)
        >>> shape = {"vocab_size": 16, "d_model": 32, "num_heads": 4, "num_layers": 2}
        >>> model = PatchDecoder("pre-norm", grid=grid, classes=10, **shape)
        >>> model(torch.zeros(3, 8, 8, 1, dtype=torch.long), torch.tensor([0, 1, 2])).shape
        torch.Size([3, 4, 16, 16])
    """

    reads = "(levels, labels)"

    @takes_fields_of(ModelConfig, NEEDED)
    def __init__(
        self,
        scheme: Scheme | str,
        *,
        grid: PatchGrid,
        classes: int,
        within: Within | None = None,
        seed: int = 0,
        calibration: tuple[Tensor, Tensor] | Later | None = None,
        **shape: Unpack[ModelKeywords],
    ) -> None:
        super().__init__(scheme, calibration)
        self.config, self.grid = model_config(shape), grid
        within = within or Within()
        small = _small(self.config, within)
        d_model, width = self.config.d_model, within.width
        self.stack = build_stack(self.scheme, self.config, "decoder")
        self.within = build_stack(self.scheme, small, "decoder")
        self.classes = LookupTable(classes, d_model, "class")
        self.levels = LookupTable(self.config.vocab_size, width, "grey level")
        self.into_patch = nn.Linear(grid.values * width, d_model)
        self.out_of_patch = nn.Linear(d_model, grid.values * width)
        self.patch_places = LookupTable(grid.tokens, d_model)
        self.pixel_places = LookupTable(grid.values, width)
        self.head = nn.Linear(width, self.config.vocab_size)
        self.logits = self.scheme.logits(width, self.config.vocab_size)
        self.start_(seed, calibration)

    def stacks(self) -> list[tuple[Stack, list[Tensor]]]:
        return [(self.stack, [self.classes.weight]), (self.within, [self.levels.weight, self.head.weight])]

    def example(self) -> tuple[Tensor, ...]:
        levels = torch.zeros(1, self.grid.height, self.grid.width, self.grid.channels, dtype=torch.long)
        device = self.classes.weight.device
        return levels.to(device), torch.zeros(1, dtype=torch.long, device=device)

    def forward(
        self, levels: Int[Tensor, "batch height width channels"], labels: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch patches pixels levels"]:
        """Logits of every pixel's level, given the class and the pixels before it; in the order of `grid.cut(levels)`.

        Args:
            levels: grey levels, from 0.
            labels: classes.
        """
        patches = self.grid.cut(levels)
        outlook = self.stack(self._patches(patches[:, :-1], labels), Context(causal=True))
        hidden = self.within(self._pixels(outlook, patches.flatten(0, 1)[:, :-1]), Context(causal=True))
        return self.logits(self.head(hidden)).unflatten(0, (len(levels), -1))

    @torch.no_grad()
    def generate(self, labels: Int[Tensor, "batch"], sampling: Sampling) -> Int[Tensor, "batch height width channels"]:
        """Pictures of the labels' classes, pixel by pixel; every pixel and every patch is read once, into a cache."""
        cache, vectors = KVCache(), self._patches(self.levels.weight.new_empty(len(labels), 0, 0), labels)
        patches: list[Tensor] = []
        for place in range(self.grid.tokens):
            if patches:
                vectors = self._of_patches(patches[-1][:, None], first=place)
            outlook = self.stack(vectors, Context(causal=True, cache=cache))
            patches.append(self._patch(outlook, sampling))
        return self.grid.joined(torch.stack(patches, dim=1))

    def _patch(self, outlook: Float[Tensor, "batch 1 d_model"], sampling: Sampling) -> Int[Tensor, "batch pixels"]:
        """The levels of the next patch."""
        cache, before = KVCache(), self._before(outlook)
        pixels: list[Tensor] = []
        for place in range(self.grid.values):
            vector = before[:, place : place + 1]
            if pixels:
                vector = vector + self.levels(pixels[-1])
            hidden = self.within(vector, Context(causal=True, cache=cache))
            pixels.append(sampling.choose(self.logits(self.head(hidden[:, 0]))))
        return torch.cat(pixels, dim=1)

    def _patches(self, patches: Tensor, labels: Tensor) -> Float[Tensor, "batch patches d_model"]:
        """What the first stack is given: the class, then all patches but the last."""
        first = (self.classes(labels) + self.patch_places.weight[0])[:, None]
        return (
            torch.cat((first, self._of_patches(patches, first=1)), dim=1) if patches.shape[1] else self._dropped(first)
        )

    def _of_patches(self, patches: Int[Tensor, "batch patches pixels"], first: int) -> Tensor:
        places = self.patch_places.weight[first : first + patches.shape[1]]
        return self._dropped(self.into_patch(self.levels(patches).flatten(2)) + places)

    def _pixels(self, outlook: Tensor, earlier: Int[Tensor, "rows earlier"]) -> Float[Tensor, "rows pixels width"]:
        """What the second stack is given: the outlook of each pixel's place, and the level of the pixel before it."""
        return self._before(outlook) + F.pad(self.levels(earlier), (0, 0, 1, 0))

    def _before(self, outlook: Tensor) -> Float[Tensor, "rows pixels width"]:
        """What is known before a patch's first pixel; a row a patch."""
        rows = self.out_of_patch(outlook).reshape(-1, self.grid.values, self.levels.embedding_dim)
        return rows + self.pixel_places.weight

    def _dropped(self, vectors: Tensor) -> Tensor:
        return F.dropout(vectors, self.config.dropout, self.training) if self.config.dropout else vectors


def _small(config: ModelConfig, within: Within) -> ModelConfig:
    """The shape of the stack within a patch."""
    return replace(
        config, d_model=within.width, num_heads=within.heads, num_kv_heads=None, num_layers=within.layers, d_ff=None
    )
