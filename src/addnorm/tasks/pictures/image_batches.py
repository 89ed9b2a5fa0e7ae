"""What the image tasks share: batches of indices, numbers from pixels, and what a run's folder says of its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from addnorm.config import RunConfig
from addnorm.data.pictures.image_splits import Images, ImageSplits, subset
from addnorm.errors import UserError
from addnorm.files import write_json
from addnorm.json_file import read_object
from addnorm.layers.initialise import generator_for
from addnorm.layers.patches import PatchGrid

if TYPE_CHECKING:
    from jaxtyping import Float, Int, UInt8

FILE = "images.json"


@dataclass(frozen=True, kw_only=True)
class ImageKind:
    """Size and classes of the images that a run was trained on.

    Args:
        height: in pixels.
        width: in pixels.
        channels: of a pixel.
        classes: their names, in the order of the labels.
    """

    height: int
    width: int
    channels: int
    classes: tuple[str, ...]

    def grid(self, patch: int, across: int) -> PatchGrid:
        """How the images are cut.

        Args:
            patch: side of a patch; 0 for the largest that divides the images and leaves `across` or more to a side.
            across: patches along the shorter side, if the images are that large.

        >>> ImageKind(height=28, width=28, channels=1, classes=("a", "b")).grid(0, across=4).patch
        7
        """
        shorter = min(self.height, self.width)
        fitting = [side for side in range(1, shorter + 1) if self.height % side == self.width % side == 0]
        chosen = max([side for side in fitting if side * across <= shorter], default=1)
        return PatchGrid(height=self.height, width=self.width, channels=self.channels, patch=patch or chosen)

    def save(self, folder: Path) -> None:
        """Write it beside a run's weights."""
        write_json(folder / FILE, asdict(self))


def kind_of(splits: ImageSplits) -> ImageKind:
    """The size and the classes of loaded images."""
    height, width, channels = splits.shape
    return ImageKind(height=height, width=width, channels=channels, classes=tuple(splits.classes))


def kind_in(folder: Path) -> ImageKind:
    """What `ImageKind.save` wrote.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        values = read_object(folder / FILE)
        return ImageKind(**values | {"classes": tuple(values["classes"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / FILE} cannot be read ({error}); name the folder of a run on images.") from error


def as_kind(splits: ImageSplits, kind: ImageKind) -> ImageSplits:
    """Other images with the labels of an earlier run.

    Raises:
        UserError: they have another size, or a class that the run did not know.
    """
    came = kind_of(splits)
    if (came.height, came.width, came.channels) != (kind.height, kind.width, kind.channels):
        raise UserError(
            f"images of {came.height} x {came.width} pixels with {came.channels} channels came; the run was trained on "
            f"{kind.height} x {kind.width} with {kind.channels}: give images of that size."
        )
    unknown = [name for name in came.classes if name not in kind.classes]
    if unknown:
        raise UserError(f"class '{unknown[0]}' was not in the training data; known: {', '.join(kind.classes)}.")
    places = np.array([kind.classes.index(name) for name in came.classes], dtype=np.int64)

    def renumbered(part: Images) -> Images:
        return Images(pixels=part.pixels, labels=places[part.labels])

    return ImageSplits(
        origin=splits.origin,
        classes=kind.classes,
        train=renumbered(splits.train),
        validation=renumbered(splits.validation),
        test=renumbered(splits.test),
    )


def numbers(pixels: np.ndarray | Tensor) -> Float[Tensor, "batch height width channels"]:
    """Bytes as numbers from -1 to 1: `pixel / 127.5 - 1`."""
    tensor = pixels if isinstance(pixels, Tensor) else torch.from_numpy(pixels.copy())
    return tensor.float() / 127.5 - 1


def pixels_of(values: Float[Tensor, "batch height width channels"]) -> UInt8[Tensor, "batch height width channels"]:
    """The nearest bytes to numbers from -1 to 1."""
    return ((values + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def batch_indices(config: RunConfig, step: int, count: int) -> Int[Tensor, "batch"]:
    """Which of `count` training images a step takes: a function of the config's seed and the step.

    Every epoch takes each image once, in an order of its own; a batch may reach into the next epoch.
    """
    places = torch.arange(step * config.batch_size, (step + 1) * config.batch_size)
    found = torch.empty_like(places)
    for epoch in (places // count).unique().tolist():
        here = places // count == epoch
        found[here] = _order(config.seed, epoch, count)[places[here] % count]
    return found


def generator_of(config: RunConfig, step: int, purpose: str) -> torch.Generator:
    """The draws of a step, a stream of their own for each purpose."""
    return generator_for(config.seed, f"{purpose}/{step}")


def spread(images: Images, most: int | None) -> Images:
    """At most so many images, evenly over a split; all of them for None."""
    count = len(images)
    if most is None or most >= count:
        return images
    return subset(images, np.arange(max(most, 1)) * count // max(most, 1))


def class_frequencies(labels: np.ndarray, classes: int) -> Float[Tensor, "classes"]:
    """How often each class comes, one added to each count."""
    counts = torch.bincount(torch.as_tensor(labels), minlength=classes).double() + 1
    return counts / counts.sum()


def class_named(text: str, classes: Sequence[str]) -> int | None:
    """The label of a class by its name, whatever its capitals; None where there is none."""
    names = [name.casefold() for name in classes]
    wanted = text.strip().casefold()
    return names.index(wanted) if wanted in names else None


@lru_cache(maxsize=2)  # this epoch's and, at its end, the next
def _order(seed: int, epoch: int, count: int) -> Tensor:
    return torch.randperm(count, generator=generator_for(seed, f"order/{epoch}"))
