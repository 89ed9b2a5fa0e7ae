"""Images by diffusion: a model learns what noise was added, and draws by taking it away step by step."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from addnorm import schemes
from addnorm.config import RunConfig
from addnorm.data.pictures.image_splits import Images, ImageSplits
from addnorm.layers.initialise import generator_for
from addnorm.models.ddim import Sampler
from addnorm.models.diffusion import Conditioning, DiffusionTransformer, Head
from addnorm.models.noise import Noise
from addnorm.task import Score, Split, evaluating
from addnorm.tasks.pictures import image_batches
from addnorm.tasks.pictures.generation import FEWEST, GenerationProblem, GenerationReader, cut
from addnorm.tasks.pictures.image_batches import ImageKind
from addnorm.tasks.pictures.marginals import independent_nats, variances
from addnorm.tasks.pictures.variational import bits_per_dimension

if TYPE_CHECKING:
    from jaxtyping import Int, UInt8

EVALUATION_BATCH = 250
"""Images of a forward in evaluation and in sampling."""


@dataclass(frozen=True, kw_only=True)
class Denoising:
    """How a diffusion learns and draws.

    Args:
        patch: side of a patch.
        noise: the forward process.
        conditioning: how time and class come to the body.
        head: how the picture comes from it.
        drop: share of the training images that the model sees without their class.
        sampler: how pictures are drawn.
    """

    patch: int
    noise: Noise
    conditioning: Conditioning
    head: Head
    drop: float
    sampler: Sampler


class DiffusionReader(GenerationReader):
    """Size and classes of the images, and a diffusion Transformer over them."""

    def __init__(self, kind: ImageKind, choices: Denoising) -> None:
        super().__init__(kind)
        self.choices = choices

    def build(self, config: RunConfig) -> DiffusionTransformer:
        """A diffusion Transformer with one label more than classes, with fresh weights."""
        shape = asdict(config.model(len(self.kind.classes) + 1))
        return DiffusionTransformer(
            schemes.parse(config.scheme),
            grid=cut(self.kind, self.choices.patch),
            conditioning=self.choices.conditioning,
            head=self.choices.head,
            noise=self.choices.noise,
            seed=config.seed,
            calibration="later",
            **shape,
        )

    def draw(
        self, model: nn.Module, labels: Int[Tensor, "batch"], generator: torch.Generator
    ) -> UInt8[Tensor, "batch height width channels"]:
        """Pictures of the labels' classes, from noise, by DDIM with guidance."""
        kind, drawn = self.kind, []
        for part in labels.split(EVALUATION_BATCH):
            start = torch.randn(len(part), kind.height, kind.width, kind.channels, generator=generator)
            made = self.choices.sampler(model, self.choices.noise, start, part, len(kind.classes))
            drawn.append(image_batches.pixels_of(made))
        return torch.cat(drawn)


class DiffusionProblem(GenerationProblem):
    """`loss = mean (prediction(z_t, t, class) - target)^2` over all pixels; the class at times left out.

    Half of the t are even from 0 to 1, half are even in the signal-to-noise ratio's logarithm.
    """

    loss_name = "squared error"

    def __init__(self, config: RunConfig, choices: Denoising, splits: ImageSplits, samples: int) -> None:
        kind = image_batches.kind_of(splits)
        self.grid, self.choices = cut(kind, choices.patch), choices
        super().__init__(config, DiffusionReader(kind, choices), splits, samples)
        self._validation = self._noised(
            image_batches.numbers(self.validation.pixels),
            torch.from_numpy(self.validation.labels.copy()),
            generator_for(0, "validation"),
        )
        self.loss_unit = self._chance = self._independent_error()

    @property
    def chance_loss(self) -> float:
        """The loss of who takes each pixel for a Gaussian of its own: `s^2 / (alpha^2 s^2 + sigma^2)` for v."""
        return self._chance

    @property
    def tokens_per_example(self) -> int:
        """Patches of an image."""
        return self.grid.tokens

    def train_batch(self, step: int) -> tuple[Tensor, ...]:
        """Images, labels (some of them "no class"), times and noise: a function of the config's seed and the step."""
        chosen = image_batches.batch_indices(self.config, step, len(self.labels))
        generator = image_batches.generator_of(self.config, step, "noise")
        images, labels, times, noise = self._noised(
            image_batches.numbers(self.pixels[chosen]), self.labels[chosen], generator
        )
        dropped = torch.rand(len(chosen), generator=generator) < self.choices.drop
        return images, torch.where(dropped, len(self.splits.classes), labels), times, noise

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """The squared error of a batch, a scalar with its graph."""
        images, _, times, noise = batch
        target = self.choices.noise.target(images, times, noise)
        return (model(*self.given(batch)).float() - target).square().mean()

    def evaluate(self, model: nn.Module) -> float:
        """The squared error on held-out images, at times and with noise that are always the same."""
        count, total = len(self.validation), 0.0
        with evaluating(model):
            for part in zip(*(tensor.split(EVALUATION_BATCH) for tensor in self._validation), strict=True):
                total += self.loss(model, part).item() * len(part[0])
        return total / count

    def scores(
        self, model: nn.Module, split: Split = "test", limit: int | None = None, *, baselines: bool = True
    ) -> list[Score]:
        """A bound on bits per dimension; for a thousand items or more also the Frechet distance of samples."""
        chosen: Images = image_batches.spread(getattr(self.splits, split), limit)
        with evaluating(model):
            bits = bits_per_dimension(model, self.choices.noise, chosen)
        trivial = independent_nats(self.splits.train, chosen, 256) / math.log(2) if baselines else None
        bound = Score(
            name="bits per dimension",
            value=bits,
            better="lower",
            baseline=trivial,
            baseline_name="" if trivial is None else "independent pixels of the class",
            note="8-bit pixels, given the class; the variational upper bound of a diffusion, not the likelihood",
        )
        return [bound, *(self.sample_scores(model, chosen, baselines=baselines) if len(chosen) >= FEWEST else [])]

    def given(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """What the model is asked: noisy images, times, labels."""
        images, labels, times, noise = batch
        return self.choices.noise.noised(images, times, noise), times, labels

    def _noised(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """The batch with times, at a place in each of as many even parts of 0 to 1 as there are images, and noise."""
        count = len(images)
        places = torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)
        return images, labels, self.choices.noise.spread(places / count), torch.randn(images.shape, generator=generator)

    def _independent_error(self) -> float:
        """The least mean error when each pixel is a Gaussian of variance s^2 that knows nothing of the others."""
        spread = variances(self.splits.train)
        times = self.choices.noise.spread((torch.arange(1000) + 0.5) / 1000)
        alpha, sigma = (rate.square() for rate in self.choices.noise.rates(times, spread[None]))
        signal = spread if self.choices.noise.predict == "v" else alpha * spread
        return float((signal / (alpha * spread + sigma)).mean())
