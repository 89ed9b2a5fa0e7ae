"""What both ways of generating images share: the data, the scores of samples, the answer to a class's name."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from addnorm.config import RunConfig
from addnorm.data.pictures import png
from addnorm.data.pictures.image_splits import Images, ImageSplits
from addnorm.errors import UserError
from addnorm.files import write_atomically
from addnorm.layers.initialise import generator_for
from addnorm.layers.patches import PatchGrid
from addnorm.task import Prediction, Problem, Reader, Score, evaluating
from addnorm.tasks.pictures import image_batches
from addnorm.tasks.pictures.frechet import Judge, judge_of
from addnorm.tasks.pictures.image_batches import ImageKind
from addnorm.tasks.pictures.marginals import independent_samples

if TYPE_CHECKING:
    from jaxtyping import Int, UInt8

FEWEST = 1000
"""Items from which on a Frechet distance is measured; of fewer samples it says little."""
DRAWN, MOST_DRAWN = 16, 400
"""Pictures of an answer, where no number is given and at most."""
SIDE = 56
"""Height to which small pictures are enlarged on a sheet, about."""


class GenerationReader(Reader):
    """Size and classes of the images, and how a model draws.

    Args:
        kind: size and classes.
    """

    def __init__(self, kind: ImageKind) -> None:
        self.kind = kind

    @abstractmethod
    def draw(
        self, model: nn.Module, labels: Int[Tensor, "batch"], generator: torch.Generator
    ) -> UInt8[Tensor, "batch height width channels"]:
        """Pictures of the labels' classes."""

    def save(self, folder: Path) -> None:
        """Write size and classes."""
        self.kind.save(folder)

    def predict(self, model: nn.Module, given: str, config: RunConfig, beside: str | None = None) -> Prediction:
        """Pictures of a class, as a sheet.

        Args:
            model: in evaluation.
            given: a class's name, and how many pictures: "sneaker", "sneaker 25".
            config: of the run.
            beside: the seed of the draws, a whole number; the run's own if None.
        """
        label, count = self._asked(given)
        seed = config.seed if beside is None else _whole(beside)
        with evaluating(model):
            labels = torch.full((count,), label)
            pictures = self.draw(model, labels, generator_for(seed, f"prediction/{label}"))
        name = self.kind.classes[label]
        file = f"{re.sub(r'[^a-z0-9]+', '-', name.casefold())}.png"
        return Prediction(
            text=f"{count} pictures of class {name}",
            values={"class": name, "count": count, "seed": seed},
            write=_writer(pictures, file, columns=max(1, round(count**0.5))),
        )

    def _asked(self, given: str) -> tuple[int, int]:
        """The label and the number of pictures that a text asks for."""
        label = image_batches.class_named(given, self.kind.classes)
        if label is not None:
            return label, DRAWN
        name, _, number = given.strip().rpartition(" ")
        label = image_batches.class_named(name, self.kind.classes)
        if label is None or not number.isdecimal():
            known = ", ".join(self.kind.classes)
            example = f'"{self.kind.classes[0]}" or "{self.kind.classes[0]} 25"'
            raise UserError(f"'{given}' names no class; give one of {known}, such as {example}.")
        if not 1 <= int(number) <= MOST_DRAWN:
            raise UserError(f"{number} pictures are not allowed; ask for 1 to {MOST_DRAWN}.")
        return label, int(number)


class GenerationProblem(Problem):
    """Images to learn to draw.

    Args:
        config: the run.
        reader: draws.
        splits: the images.
        samples: pictures that a Frechet distance is taken over.
    """

    chance_name = "independent pixels"

    def __init__(self, config: RunConfig, reader: GenerationReader, splits: ImageSplits, samples: int) -> None:
        super().__init__(config, reader)
        self.splits, self.samples, self._draw = splits, samples, reader.draw
        self.pixels = torch.from_numpy(splits.train.pixels.copy())
        self.labels = torch.from_numpy(splits.train.labels.copy())
        kept = max(config.evaluation_tokens // self.tokens_per_example, 1)
        self.validation = image_batches.spread(splits.validation, kept)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the images."""
        return self.splits.fingerprint()

    @property
    def steps_per_epoch(self) -> float:
        """Steps that see as many examples as there are."""
        return len(self.labels) / self.config.batch_size

    def facts(self) -> dict[str, Any]:
        """Where the images are from, how many."""
        return {
            "data": self.splits.origin,
            "images": {name: len(getattr(self.splits, name)) for name in ("train", "validation", "test")},
            "classes": list(self.splits.classes),
        }

    def report(self, model: nn.Module, folder: Path) -> list[Path]:
        """A sheet of samples, a row a class, ten of each; of the first ten classes."""
        classes = min(len(self.splits.classes), 10)
        labels = torch.arange(classes).repeat_interleave(10)
        with evaluating(model):
            pictures = self._draw(model, labels, generator_for(self.config.seed, "sheet"))
        return _writer(pictures, "samples.png", columns=10)(folder)

    def sample_scores(self, model: nn.Module, real: Images, *, baselines: bool) -> list[Score]:
        """Frechet distance of samples to real pictures, and how often the classifier sees the class asked for."""
        judge, count = judge_of(self.splits), self.samples
        labels = torch.arange(count) % len(self.splits.classes)
        with evaluating(model):
            drawn = self._draw(model, labels, generator_for(self.config.seed, "samples"))
        truth = judge.features(torch.from_numpy(real.pixels.copy()))
        trivial = independent_samples(self.splits.train, labels, generator_for(0, "marginals")) if baselines else None
        floor = judge.distance_to(self._like(labels), truth)
        seen = f"in features of our own classifier ({judge.accuracy:.1f} % right on the test images)"
        return [
            Score(
                name="Frechet distance",
                value=judge.distance_to(drawn, truth),
                better="lower",
                baseline=None if trivial is None else judge.distance_to(trivial, truth),
                baseline_name="" if trivial is None else "independent pixels of the class",
                note=f"{count} samples against {len(real)} real images, {seen}; "
                f"floor, {count} training images against the same: {floor:.3g}",
            ),
            Score(
                name="class seen",
                value=_agreement(judge, drawn, labels),
                baseline=None if trivial is None else _agreement(judge, trivial, labels),
                baseline_name="" if trivial is None else "independent pixels of the class",
                note=f"percent of samples in which that classifier sees the class asked for; "
                f"real images: {_agreement(judge, self._like(labels), labels):.1f}",
            ),
        ]

    def _like(self, labels: Tensor) -> Tensor:
        """Training images of these labels, each taken once while there are enough."""
        order = torch.randperm(len(self.labels), generator=generator_for(0, "floor"))
        found = torch.empty(len(labels), dtype=torch.long)
        for label in labels.unique():
            own, places = order[self.labels[order] == label], (labels == label).nonzero().flatten()
            found[places] = own[torch.arange(len(places)) % len(own)]
        return self.pixels[found]


def cut(kind: ImageKind, patch: int) -> PatchGrid:
    """How images are cut; 0 for patches of a size that suits them."""
    return kind.grid(patch, across=7 if min(kind.height, kind.width) >= 16 else 4)


def _agreement(judge: Judge, pictures: Tensor, labels: Tensor) -> float:
    return 100 * (judge.guess(pictures) == labels).double().mean().item()


def _writer(pictures: Tensor, file: str, columns: int) -> Callable[[Path], list[Path]]:
    def write(folder: Path) -> list[Path]:
        scale = max(1, SIDE // pictures.shape[1])
        write_atomically(folder / file, png.encode(png.sheet(pictures.numpy(), columns, scale)))
        return [folder / file]

    return write


def _whole(text: str) -> int:
    if not text.strip().isdecimal():
        raise UserError(f"'{text}' is no seed; give a whole number from 0, or leave it out.")
    return int(text)
