"""Images pixel by pixel: an autoregressive model with an exact likelihood."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from addnorm import schemes
from addnorm.config import RunConfig
from addnorm.data.pictures.image_splits import Images, ImageSplits
from addnorm.layers.cross_entropy import cross_entropy
from addnorm.models.patch_decoder import PatchDecoder, Within
from addnorm.models.sampling import Sampling
from addnorm.task import Score, Split, evaluating
from addnorm.tasks.pictures import image_batches
from addnorm.tasks.pictures.generation import FEWEST, GenerationProblem, GenerationReader, cut
from addnorm.tasks.pictures.image_batches import ImageKind
from addnorm.tasks.pictures.marginals import independent_nats, pixels_of_levels, quantised

if TYPE_CHECKING:
    from jaxtyping import Int, UInt8

EVALUATION_BATCH = 50
"""Images of a forward in evaluation: 784 pixels with 256 logits each take 40 MB."""
DRAWING_BATCH = 500


@dataclass(frozen=True, kw_only=True)
class PixelDecoding:
    """How pictures become sequences, and how levels are drawn.

    Args:
        patch: side of a patch; 1 for pixels one after the other.
        levels: grey levels that a byte is quantised to; 256 are all of them.
        within: the decoder within a patch.
        temperature: of the draws.
    """

    patch: int
    levels: int
    within: Within
    temperature: float


class PixelReader(GenerationReader):
    """Size and classes of the images, and an autoregressive Transformer over their grey levels."""

    def __init__(self, kind: ImageKind, choices: PixelDecoding) -> None:
        super().__init__(kind)
        self.choices = choices

    def build(self, config: RunConfig) -> PatchDecoder:
        """A decoder over patches and one within them, with fresh weights."""
        shape = asdict(config.model(self.choices.levels))
        return PatchDecoder(
            schemes.parse(config.scheme),
            grid=cut(self.kind, self.choices.patch),
            classes=len(self.kind.classes),
            within=self.choices.within,
            seed=config.seed,
            calibration="later",
            **shape,
        )

    def draw(
        self, model: nn.Module, labels: Int[Tensor, "batch"], generator: torch.Generator
    ) -> UInt8[Tensor, "batch height width channels"]:
        """Pictures of the labels' classes, pixel by pixel."""
        assert isinstance(model, PatchDecoder)
        sampling = Sampling(temperature=self.choices.temperature, generator=generator)
        levels = torch.cat([model.generate(part, sampling) for part in labels.split(DRAWING_BATCH)])
        return pixels_of_levels(levels, self.choices.levels)


class PixelProblem(GenerationProblem):
    """`loss = -mean ln p(level | class, levels before it)`, in nats a pixel and channel."""

    loss_name = "nats per pixel"

    def __init__(self, config: RunConfig, choices: PixelDecoding, splits: ImageSplits, samples: int) -> None:
        kind = image_batches.kind_of(splits)
        self.grid, self.choices = cut(kind, choices.patch), choices
        super().__init__(config, PixelReader(kind, choices), splits, samples)
        self._chance = independent_nats(splits.train, self.validation, choices.levels)

    @property
    def chance_loss(self) -> float:
        """Nats a pixel of a model that knows how often each pixel of each class has each level."""
        return self._chance

    @property
    def tokens_per_example(self) -> int:
        """Patches of an image."""
        return self.grid.tokens

    def given(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Levels and labels."""
        return batch

    def train_batch(self, step: int) -> tuple[Tensor, ...]:
        """Grey levels and labels: a function of the config's seed and the step."""
        chosen = image_batches.batch_indices(self.config, step, len(self.labels))
        return quantised(self.pixels[chosen], self.choices.levels), self.labels[chosen]

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """Nats a pixel, smoothed; a scalar with its graph."""
        levels, labels = batch
        return cross_entropy(model(levels, labels), self.grid.cut(levels), self.config.label_smoothing)

    def evaluate(self, model: nn.Module) -> float:
        """Nats a pixel on held-out images."""
        return self._nats(model, self.validation)

    def scores(
        self, model: nn.Module, split: Split = "test", limit: int | None = None, *, baselines: bool = True
    ) -> list[Score]:
        """Bits per dimension; for a thousand items or more also the Frechet distance of samples."""
        chosen: Images = image_batches.spread(getattr(self.splits, split), limit)
        levels = self.choices.levels
        trivial = independent_nats(self.splits.train, chosen, levels) / math.log(2) if baselines else None
        exact = Score(
            name="bits per dimension",
            value=self._nats(model, chosen) / math.log(2),
            better="lower",
            baseline=trivial,
            baseline_name="" if trivial is None else "independent pixels of the class",
            note=f"exact likelihood over {levels} grey levels, given the class",
        )
        return [exact, *(self.sample_scores(model, chosen, baselines=baselines) if len(chosen) >= FEWEST else [])]

    def _nats(self, model: nn.Module, chosen: Images) -> float:
        levels = quantised(torch.from_numpy(chosen.pixels.copy()), self.choices.levels)
        total, labels = 0.0, torch.from_numpy(chosen.labels.copy())
        with evaluating(model):
            for part, of_part in zip(levels.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH), strict=True):
                total += cross_entropy(model(part, of_part), self.grid.cut(part)).item() * len(part)
        return total / len(chosen)
