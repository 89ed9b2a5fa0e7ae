"""What a video model needs to speak: the size of its frames; and the videos that users hand it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from addnorm import schemes
from addnorm.config import RunConfig, config_of
from addnorm.data.pictures import videos
from addnorm.errors import UserError
from addnorm.files import write_json
from addnorm.json_file import read_object
from addnorm.models.video import NEEDED_OF_VIDEO, VideoConfig, VideoTransformer
from addnorm.task import Prediction, Reader, evaluating
from addnorm.tasks.video.video_pictures import write_animation, write_strip
from addnorm.tasks.video.video_scores import nearness

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

FILE = "video.json"


@dataclass(frozen=True, kw_only=True)
class VideoKind:
    """The size of the frames that a run was trained on."""

    height: int
    width: int
    channels: int

    def save(self, folder: Path) -> None:
        """Write it beside a run's weights."""
        write_json(folder / FILE, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> VideoKind:
        """What `save` wrote.

        Raises:
            UserError: the file is missing or damaged.
        """
        try:
            return cls(**read_object(folder / FILE))
        except (OSError, ValueError, TypeError) as error:
            text = f"{folder / FILE} cannot be read ({error}); name the folder of a video-prediction run."
            raise UserError(text) from error

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse videos of another size.

        Raises:
            UserError: with both sizes.
        """
        if shape[-3:] != (self.height, self.width, self.channels):
            came = " x ".join(map(str, shape[-3:]))
            raise UserError(
                f"frames of {came} (height, width, channels) came; "
                f"the run was trained on {self.height} x {self.width} x {self.channels}: give frames of that size."
            )


class ClipTask(Protocol):
    """What of its task a reader asks for."""

    @property
    def given(self) -> int:
        """Frames that are given."""
        ...

    @property
    def predicted(self) -> int:
        """Frames that are predicted from them."""
        ...

    @property
    def fps(self) -> float:
        """The pace that video files are brought to; 0 leaves them."""
        ...

    def load(self, config: RunConfig) -> videos.VideoSplits:
        """The videos of a run."""
        ...

    def model_fields(self) -> dict[str, Any]:
        """What the body needs to know."""
        ...


class VideoReader(Reader):
    """The size of the frames, and the space-time Transformer over them.

    Args:
        task: frames given and predicted, patches, head.
        kind: the size.
    """

    def __init__(self, task: ClipTask, kind: VideoKind) -> None:
        self.task, self.kind = task, kind

    def model_shape(self, config: RunConfig) -> VideoConfig:
        """The shape of the body.

        Raises:
            UserError: the patch does not divide the frames.
        """
        shape = {
            name: value
            for name, value in asdict(config.model(1)).items()
            if name not in ("vocab_size", "count_padding")
        }
        return config_of(VideoConfig, shape | asdict(self.kind) | self.task.model_fields(), NEEDED_OF_VIDEO)

    def build(self, config: RunConfig) -> VideoTransformer:
        """The body with its head, with fresh weights."""
        shape = asdict(self.model_shape(config))
        return VideoTransformer(schemes.parse(config.scheme), seed=config.seed, calibration="later", **shape)

    def save(self, folder: Path) -> None:
        """Write the size."""
        self.kind.save(folder)

    def predict(self, model: nn.Module, given: str, config: RunConfig, beside: str | None = None) -> Prediction:
        """The frames that come next, as a strip and as an animation.

        Args:
            model: the body.
            given: a video file, a folder of frames, or the number of a test clip.
            config: of the run.
            beside: nothing.
        """
        assert isinstance(model, VideoTransformer)
        if beside is not None:
            raise UserError(f"'{beside}' came as a second input; video prediction takes one video.")
        clip = self._clip(given, config)
        if len(clip) < self.task.given:
            raise UserError(f"{given} has {len(clip)} frames; at least {self.task.given} are needed to go on from.")
        known = len(clip) >= self.task.given + self.task.predicted
        seen = clip[: self.task.given] if known else clip[-self.task.given :]
        with evaluating(model):
            ours = model.continued(numbers(seen[None]), self.task.predicted)[0].clamp(0, 1)
        true = clip[self.task.given :][: self.task.predicted] if known else None
        return _prediction(given, seen, ours, true)

    def _clip(self, given: str, config: RunConfig) -> UInt8[np.ndarray, "time height width channels"]:
        """What the user means, in the size and the colours that the model takes."""
        if given.isdecimal() and not Path(given).exists():
            return self._test_clip(int(given), config)
        if not given or not Path(given).expanduser().exists():
            raise UserError(
                f"'{given}' does not exist; name a video file, a folder of PNG or JPEG frames, or the number of a "
                "test clip of the run's data, such as 0."
            )
        size = (self.kind.height, self.kind.width)
        return videos.read(Path(given).expanduser(), size=size, channels=self.kind.channels, fps=self.task.fps)

    def _test_clip(self, index: int, config: RunConfig) -> np.ndarray:
        test = self.task.load(config).test
        if index >= len(test):
            raise UserError(f"test clip {index} does not exist; there are {len(test)}: 0 to {len(test) - 1}.")
        return test.clip(index)


def numbers(
    clips: UInt8[np.ndarray, "n frames height width channels"],
) -> Float[Tensor, "n frames channels height width"]:
    """Bytes as numbers from 0 to 1."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(clips, -1, 2))).float() / 255


def bytes_of(frames: Float[Tensor, "*n channels height width"]) -> UInt8[np.ndarray, "*n height width channels"]:
    """The nearest bytes to numbers from 0 to 1."""
    return (frames.clamp(0, 1) * 255).round().to(torch.uint8).movedim(-3, -1).numpy()


def _prediction(given: str, seen: np.ndarray, ours: Tensor, true: np.ndarray | None) -> Prediction:
    """In words and in pictures: above what came, below what was predicted."""
    predicted = bytes_of(ours)
    whole = np.concatenate([seen, predicted])
    first = whole[: len(seen)] if true is None else np.concatenate([seen, true])
    text = f"{len(predicted)} frames after the {len(seen)} given ones"
    values: dict[str, Any] = {"given": given, "frames": len(predicted)}
    if true is not None:
        to_come = numbers(true[None])[0]
        ours_near, copied = nearness(ours, to_come), nearness(numbers(seen[None])[0, -1:].expand_as(to_come), to_come)
        values |= {"scores": asdict(ours_near), "last_frame_copied": asdict(copied)}
        text += (
            f"; MSE {ours_near.mse:.4f}, PSNR {ours_near.psnr:.2f} dB, SSIM {ours_near.ssim:.3f}"
            f" (last given frame copied: {copied.mse:.4f}, {copied.psnr:.2f} dB, {copied.ssim:.3f})"
        )

    def write(folder: Path, name: str) -> list[Path]:
        rows = [first, predicted] if true is not None else [whole]
        moving = [first, whole] if true is not None else [whole]
        return [write_strip(folder / f"{name}.png", rows), write_animation(folder / f"{name}.gif", moving)]

    name = f"prediction-{Path(given).expanduser().resolve().stem if not given.isdecimal() else given}"
    return Prediction(text=text, values=values, write=partial(write, name=name))
