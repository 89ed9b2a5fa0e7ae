"""Image classification: a picture's class, by a vision Transformer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from addnorm import schemes
from addnorm.checks import check_at_least
from addnorm.config import RunConfig
from addnorm.data.pictures import images
from addnorm.data.pictures.image_splits import Images, ImageSplits
from addnorm.data.pictures.picture_file import picture
from addnorm.errors import UserError, unknown
from addnorm.layers.cross_entropy import cross_entropy
from addnorm.models.vision import Pooling, VisionTransformer
from addnorm.task import Prediction, Problem, Reader, Score, Split, Task, check_shape, evaluating
from addnorm.tasks.pictures import image_batches
from addnorm.tasks.pictures.augmentation import Augmentation
from addnorm.tasks.pictures.image_batches import ImageKind
from addnorm.tasks.pictures.image_scores import class_scores
from addnorm.tasks.pictures.pixel_regression import PixelRegression

EVALUATION_BATCH = 256
"""Images of a forward in evaluation."""
ACROSS = 4
"""Patches along a side, at least, where the task does not say how large they are."""
SHOWN = 3
"""Classes that a prediction names."""


class ImageReader(Reader):
    """Size and classes of the images, and the vision Transformer over them.

    Args:
        task: patch and pooling.
        kind: size and classes.
    """

    def __init__(self, task: ImageClassification, kind: ImageKind) -> None:
        self.task, self.kind = task, kind

    def build(self, config: RunConfig) -> VisionTransformer:
        """A vision Transformer with one logit a class, with fresh weights."""
        shape = asdict(config.model(len(self.kind.classes)))
        return VisionTransformer(
            schemes.parse(config.scheme),
            grid=self.kind.grid(self.task.patch, ACROSS),
            pooling=self.task.pooling,
            seed=config.seed,
            calibration="later",
            **shape,
        )

    def save(self, folder: Path) -> None:
        """Write size and classes."""
        self.kind.save(folder)

    def predict(self, model: nn.Module, given: str, config: RunConfig, beside: str | None = None) -> Prediction:
        """The likeliest classes of the picture at a path."""
        if not Path(given).expanduser().is_file():
            raise UserError(f"{given} is no file; name a picture, a PNG or JPEG file.")
        size = (self.kind.height, self.kind.width)
        pixels = picture(Path(given).expanduser(), size=size, channels=self.kind.channels)
        with evaluating(model):
            probabilities = model(image_batches.numbers(pixels[None]))[0].softmax(-1)
        shares = {name: float(share) for name, share in zip(self.kind.classes, probabilities, strict=True)}
        best = sorted(shares, key=lambda name: -shares[name])
        text = ", ".join(f"{name} ({shares[name]:.1%})" for name in best[:SHOWN])
        return Prediction(text=text, values={"label": best[0], "probabilities": shares})


class ImageClassificationProblem(Problem):
    """Classes of images: `loss = -mean ln p(class | image)`, in nats an image.

    Args:
        config: the run.
        task: patch, pooling, augmentation.
        splits: the images.
    """

    chance_name = "class frequencies"
    loss_name = "nats per image"

    def __init__(self, config: RunConfig, task: ImageClassification, splits: ImageSplits) -> None:
        kind = image_batches.kind_of(splits)
        super().__init__(config, ImageReader(task, kind))
        self.splits, self.kind = splits, kind
        self.grid = kind.grid(task.patch, ACROSS)
        self.augmentation = task.augmentation
        self.pixels, self.labels = torch.from_numpy(splits.train.pixels.copy()), _labels(splits.train)
        self.validation = image_batches.spread(splits.validation, max(config.evaluation_tokens // self.grid.tokens, 1))
        frequencies = image_batches.class_frequencies(splits.train.labels, len(kind.classes))
        self._chance = -float(frequencies.log()[_labels(self.validation)].mean())

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the images."""
        return self.splits.fingerprint()

    @property
    def chance_loss(self) -> float:
        """The loss of who knows how often each class comes, in nats an image."""
        return self._chance

    @property
    def tokens_per_example(self) -> int:
        """Patches of an image."""
        return self.grid.tokens

    @property
    def steps_per_epoch(self) -> float:
        """Steps that see as many examples as there are."""
        return len(self.labels) / self.config.batch_size

    def train_batch(self, step: int) -> tuple[Tensor, ...]:
        """Images, moved and mirrored, and their labels: a function of the config's seed and the step."""
        chosen = image_batches.batch_indices(self.config, step, len(self.labels))
        moved = self.augmentation(self.pixels[chosen], image_batches.generator_of(self.config, step, "augmentation"))
        return image_batches.numbers(moved), self.labels[chosen]

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """Nats an image, smoothed; a scalar with its graph."""
        return cross_entropy(model(batch[0]), batch[1], self.config.label_smoothing)

    def evaluate(self, model: nn.Module) -> float:
        """Nats an image on held-out images as they are."""
        return cross_entropy(self._logits(model, self.validation), _labels(self.validation)).item()

    def scores(
        self, model: nn.Module, split: Split = "test", limit: int | None = None, *, baselines: bool = True
    ) -> list[Score]:
        """Accuracy and macro-F1, beside those of logistic regression on the pixels."""
        chosen = image_batches.spread(getattr(self.splits, split), limit)
        guess = self._logits(model, chosen).argmax(-1)
        trivial = PixelRegression(self.splits.train, len(self.kind.classes)).predict(chosen) if baselines else None
        return class_scores(guess, _labels(chosen), trivial, int(self.labels.mode().values))

    def facts(self) -> dict[str, Any]:
        """Where the images are from, how many, how large."""
        return {
            "data": self.splits.origin,
            "images": {name: len(getattr(self.splits, name)) for name in ("train", "validation", "test")},
            "classes": list(self.kind.classes),
        }

    def _logits(self, model: nn.Module, chosen: Images) -> Tensor:
        with evaluating(model):
            parts = torch.from_numpy(chosen.pixels.copy()).split(EVALUATION_BATCH)
            return torch.cat([model(image_batches.numbers(part)) for part in parts])


@dataclass(frozen=True, kw_only=True)
class ImageClassification(Task):
    """Image classification: a picture's class, by a vision Transformer.

    Args:
        patch: side of a patch, in pixels; must divide the images. 0: as large as leaves four or more to a side.
        pooling: mean over the patches, or a class token (`class`).
        shift: pixels by which a training image is moved at most, at random; 0 leaves it. For few images, seen often.
        mirror: whether half of the training images are mirrored, at random; not for digits or letters.
        resize: make all images so many pixels wide and high; 0 leaves them.

    Raises:
        UserError: a value is not allowed.
    """

    patch: int = 0
    pooling: Pooling = "mean"
    shift: int = 0
    mirror: bool = False
    resize: int = 0

    defaults: ClassVar[Mapping[str, Any]] = {
        "data": "fashion-mnist",
        "position": "learned",
        "d_model": 96,
        "num_heads": 4,
        "num_layers": 6,
        "batch_size": 64,
        "steps": 3200,
        "learning_rate": 2e-3,
        "ema": 0.998,
        "score_items": 1000,
    }
    comparison: ClassVar[Mapping[str, Any]] = {
        "schemes": ("pre-norm", "post-norm", "mhc"),
        "data": "digits",
        "position": "learned",
        "layers": (2, 8),
        "d_model": 48,
        "batch_size": 16,
        "steps": (200,),
        "learning_rates": (2e-3,),
        "warm_up": 0.2,
        "ema": 0.0,
        "evaluations": 3,
        "evaluation_tokens": 2_880,
        "score_items": 100,
    }

    def __post_init__(self) -> None:
        if self.pooling not in ("mean", "class"):
            raise unknown("pooling", str(self.pooling), ("mean", "class"))
        if not isinstance(self.mirror, bool):
            raise UserError(f"mirror={self.mirror} is not allowed; use True or False.")
        for name in ("patch", "shift", "resize"):
            if not isinstance(getattr(self, name), int):
                raise UserError(f"{name}={getattr(self, name)} is not allowed; use a whole number.")
            check_at_least(name, getattr(self, name), 0)

    @property
    def augmentation(self) -> Augmentation:
        """What is done to the training images."""
        return Augmentation(shift=self.shift, mirror=0.5 if self.mirror else 0.0)

    def prepare(self, config: RunConfig, reader: Reader | None = None) -> ImageClassificationProblem:
        """The images loaded.

        Raises:
            UserError: they are missing, damaged, of mixed sizes, the patch does not divide them, or their size or
                classes are not the reader's.
        """
        check_shape(config, "image-classification", segments=0)
        splits = images.load(config.data, resize=self.resize)
        if isinstance(reader, ImageReader):
            splits = image_batches.as_kind(splits, reader.kind)
        return ImageClassificationProblem(config, self, splits)

    def reader(self, folder: Path) -> ImageReader:
        """Size and classes of the images that a run was trained on.

        Raises:
            UserError: the file is missing or damaged.
        """
        return ImageReader(self, image_batches.kind_in(folder))


def _labels(chosen: Images) -> Tensor:
    return torch.from_numpy(chosen.labels.copy())
