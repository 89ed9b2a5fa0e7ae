"""Image generation: pictures of a class, by diffusion or pixel by pixel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from addnorm.checks import check_at_least, check_count, check_positive, check_probability
from addnorm.config import RunConfig
from addnorm.data.pictures import images
from addnorm.errors import UserError, unknown
from addnorm.models.ddim import Sampler
from addnorm.models.diffusion import Conditioning, Head
from addnorm.models.noise import Noise
from addnorm.models.patch_decoder import Within
from addnorm.task import Reader, Task, check_shape
from addnorm.tasks.pictures import image_batches
from addnorm.tasks.pictures.denoising import Denoising, DiffusionProblem, DiffusionReader
from addnorm.tasks.pictures.generation import GenerationReader
from addnorm.tasks.pictures.image_batches import ImageKind
from addnorm.tasks.pictures.pixel_decoding import PixelDecoding, PixelProblem, PixelReader

CHOICES: dict[str, tuple[str, ...]] = {
    "method": ("diffusion", "autoregressive"),
    "conditioning": ("tokens", "modulation"),
    "head": ("levels", "linear"),
}


@dataclass(frozen=True, kw_only=True)
class ImageGeneration(Task):
    """Image generation: pictures of a class, by diffusion or pixel by pixel.

    Args:
        method: "diffusion" (DiT) or "autoregressive" (patch by patch, and pixel by pixel within a patch).
        patch: side of a patch, in pixels; must divide the images. 0: as large as leaves four or more to a side, seven
            or more on images of 16 pixels and above. 1 with autoregressive: pixels one after the other.
        resize: make all images so many pixels wide and high; 0 leaves them.
        samples: pictures that the Frechet distance is taken over.
        schedule: of the diffusion's noise: "cosine" or "linear".
        predict: what the diffusion predicts: "v" or "epsilon".
        conditioning: how time and class come to it: "tokens", or "modulation" of the sublayers (adaLN-zero).
        head: how its picture comes from hidden vectors: "linear", or "levels", the mean of 256 grey levels, of which a
            noisy pixel makes some likelier.
        drop: share of the training images that it sees without their class.
        sampling_steps: of DDIM.
        guidance: towards the class: 1 as trained, 0 without class.
        levels: grey levels of the autoregressive model; 256 are all.
        within_width: width of its decoder within a patch.
        within_layers: layers of its decoder within a patch.
        temperature: of its draws.

    Raises:
        UserError: a value is not allowed.
    """

    method: Literal["diffusion", "autoregressive"] = "diffusion"
    patch: int = 0
    resize: int = 0
    samples: int = 1000
    schedule: Literal["cosine", "linear"] = "cosine"
    predict: Literal["v", "epsilon"] = "v"
    conditioning: Conditioning = "tokens"
    head: Head = "levels"
    drop: float = 0.1
    sampling_steps: int = 25
    guidance: float = 1.5
    levels: int = 256
    within_width: int = 32
    within_layers: int = 2
    temperature: float = 1.0

    defaults: ClassVar[Mapping[str, Any]] = {
        "data": "fashion-mnist",
        "position": "learned",
        "d_model": 96,
        "num_heads": 4,
        "num_layers": 6,
        "batch_size": 32,
        "steps": 2000,
        "learning_rate": 2e-3,
        "ema": 0.998,
        "evaluation_tokens": 24_500,
        "score_items": 200,
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
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise unknown(name, str(getattr(self, name)), allowed)
        for name in ("samples", "levels"):
            check_count(name, getattr(self, name))
        for name in ("patch", "resize"):
            if not isinstance(getattr(self, name), int):
                raise UserError(f"{name}={getattr(self, name)} is not allowed; use a whole number.")
            check_at_least(name, getattr(self, name), 0)
        if not 2 <= self.levels <= 256:
            raise UserError(f"levels={self.levels} is not allowed; use 2 to 256.")
        check_probability("drop", self.drop)
        check_positive("temperature", self.temperature)
        _ = self.denoising, self.decoding  # they refuse what else is not allowed

    @property
    def denoising(self) -> Denoising:
        """The diffusion's choices."""
        return Denoising(
            patch=self.patch,
            noise=Noise(schedule=self.schedule, predict=self.predict),
            conditioning=self.conditioning,
            head=self.head,
            drop=self.drop,
            sampler=Sampler(steps=self.sampling_steps, guidance=self.guidance),
        )

    @property
    def decoding(self) -> PixelDecoding:
        """The autoregressive model's choices."""
        within = Within(width=self.within_width, layers=self.within_layers)
        return PixelDecoding(patch=self.patch, levels=self.levels, within=within, temperature=self.temperature)

    def prepare(self, config: RunConfig, reader: Reader | None = None) -> DiffusionProblem | PixelProblem:
        """The images loaded.

        Raises:
            UserError: they are missing, damaged, of mixed sizes, the patch does not divide them, or their size or
                classes are not the reader's.
        """
        check_shape(config, "image-generation", segments=0)
        splits = images.load(config.data, resize=self.resize)
        if isinstance(reader, GenerationReader):
            splits = image_batches.as_kind(splits, reader.kind)
        if self.method == "diffusion":
            return DiffusionProblem(config, self.denoising, splits, self.samples)
        return PixelProblem(config, self.decoding, splits, self.samples)

    def reader(self, folder: Path) -> GenerationReader:
        """Size and classes of the images that a run was trained on.

        Raises:
            UserError: the file is missing or damaged.
        """
        return self._reader(image_batches.kind_in(folder))

    def _reader(self, kind: ImageKind) -> GenerationReader:
        if self.method == "diffusion":
            return DiffusionReader(kind, self.denoising)
        return PixelReader(kind, self.decoding)
