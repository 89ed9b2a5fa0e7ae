"""Video prediction: the frames that come next, by a space-time Transformer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from addnorm.checks import check_at_least, check_count
from addnorm.config import RunConfig
from addnorm.data.pictures import videos
from addnorm.data.pictures.videos import Clips, VideoSplits
from addnorm.data.sets.moving_digits import MovingDigits
from addnorm.errors import UserError, unknown
from addnorm.models.video import HEADS, VideoTransformer
from addnorm.task import Problem, Reader, Score, Split, Task, check_shape, evaluating
from addnorm.tasks.video.video_pictures import write_animation, write_strip
from addnorm.tasks.video.video_reader import VideoKind, VideoReader, bytes_of, numbers
from addnorm.tasks.video.video_scores import WINDOW, FrameNearness, each_frame, mean_of, score_rows

MAX_FPS = 1000
SMALL = "moving-digits-small"
"""One digit in frames of 32 x 32 pixels: for runs of seconds."""
TRAININGS = ("next-frame", "unrolled", "scheduled")
AVERAGED = 200
"""Training clips that the mean frame is taken over."""
EVALUATION_CLIPS = 16
"""Clips of a forward in evaluation."""
SHOWN = 4
"""Test clips that an evaluation draws."""


class VideoPredictionProblem(Problem):
    """The next frames of videos: `loss = mean (predicted - true)^2` over pixels from 0 to 1.

    Args:
        config: the run.
        task: frames given and predicted, patches, head.
        splits: the videos.
    """

    chance_name = "mean frame"
    loss_name = "squared error per pixel"

    def __init__(self, config: RunConfig, task: VideoPrediction, splits: VideoSplits) -> None:
        frames, height, width, channels = splits.shape
        kind = VideoKind(height=height, width=width, channels=channels)
        reader = VideoReader(task, kind)
        super().__init__(config, reader)
        self.task, self.splits = task, splits
        self.tokens_of_clip = frames * reader.model_shape(config).patches
        asked = max(config.evaluation_tokens // self.tokens_of_clip, 1)
        self._validation = self._stacked(splits.validation, range(min(asked, len(splits.validation))))
        self._mean = self._mean_frame()
        self.loss_unit = self.chance_loss

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the videos."""
        return self.splits.fingerprint()

    @property
    def chance_loss(self) -> float:
        """The squared error of the mean frame, whatever came before."""
        return float((self._mean - self._validation[:, 1:]).square().mean())

    @property
    def tokens_per_example(self) -> int:
        """Patches of all frames of a clip."""
        return self.tokens_of_clip

    @property
    def steps_per_epoch(self) -> float | None:
        """Steps that see as many examples as there are; None where clips are drawn without an end."""
        drawn = isinstance(self.splits.train, MovingDigits)
        return None if drawn else len(self.splits.train) / self.config.batch_size

    def train_batch(self, step: int) -> tuple[Tensor, ...]:
        """Clips, and for each whether it is unrolled: a function of the config's seed and the step."""
        draws = np.random.default_rng([self.config.seed, step])
        chosen = draws.integers(len(self.splits.train), size=self.config.batch_size)
        unrolled = draws.random() < self._unrolled_share(step)
        return self._stacked(self.splits.train, chosen.tolist()), torch.full((len(chosen),), unrolled)

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """The squared error of all frames but the first; a scalar with its graph.

        Each is predicted from the true frames before it, or those to come from predicted ones.
        """
        assert isinstance(model, VideoTransformer)
        clips, unrolled = batch
        if unrolled[0]:
            predicted = model.unrolled(clips[:, : self.task.given], clips.shape[1] - self.task.given)
        else:
            predicted = model(clips[:, :-1])
        return (predicted.float() - clips[:, 1:]).square().mean()

    def evaluate(self, model: nn.Module) -> float:
        """The squared error on held-out clips; unless all training is from true frames, from predicted ones."""
        with evaluating(model):
            parts = self._validation.split(EVALUATION_CLIPS)
            unrolled = torch.tensor([self.task.training != "next-frame"])
            total = sum(self.loss(model, (part, unrolled)).item() * len(part) for part in parts)
        return total / len(self._validation)

    def scores(
        self, model: nn.Module, split: Split = "test", limit: int | None = None, *, baselines: bool = True
    ) -> list[Score]:
        """MSE, PSNR and SSIM of the next frame from true ones, then of all frames to come from the given ones.

        Beside them stand those of the last true frame, copied; the mean frame's error is in the note.
        """
        found: dict[str, list[Tensor]] = defaultdict(list)
        for clips, nexts, continued in self._predictions(model, split, limit):
            to_come = clips[:, self.task.given :]
            found["next"].append(each_frame(nexts, to_come))
            found["continued"].append(each_frame(continued, to_come))
            if baselines:
                last = clips[:, self.task.given - 1 : -1]
                found["copied"].append(each_frame(last, to_come))
                found["frozen"].append(each_frame(last[:, :1].expand_as(to_come), to_come))
                found["mean"].append(each_frame(self._mean.expand_as(to_come), to_come))
        near = {name: mean_of(parts) for name, parts in found.items()}
        note = f"mean frame: MSE {near['mean'].mse:.4f}" if baselines else ""
        ahead = f", {self.task.predicted} frames ahead"
        return [
            *score_rows(near["next"], near.get("copied"), "", "last frame copied", note),
            *score_rows(near["continued"], near.get("frozen"), ahead, "last given frame copied", note),
        ]

    def by_frame(self, model: nn.Module, split: Split = "test", limit: int | None = None) -> list[FrameNearness]:
        """How near each frame to come is to its prediction from the given ones, the first of them first."""
        found: list[list[Tensor]] = [[] for _ in range(self.task.predicted)]
        for clips, _, continued in self._predictions(model, split, limit):
            for t, parts in enumerate(found):
                parts.append(each_frame(continued[:, t], clips[:, self.task.given + t]))
        return [mean_of(parts) for parts in found]

    def facts(self) -> dict[str, Any]:
        """Where the videos are from, how many, how large."""
        return {
            "data": self.splits.origin,
            "clips": {name: len(getattr(self.splits, name)) for name in ("train", "validation", "test")},
            "shape": list(self.splits.shape),
        }

    def report(self, model: nn.Module, folder: Path) -> list[Path]:
        """Strips and animations of the first test clips: above what came, below what was predicted."""
        clips, _, continued = next(self._predictions(model, "test", SHOWN))
        written = []
        for i, (clip, predicted) in enumerate(zip(clips, continued, strict=True)):
            true, ours = bytes_of(clip), bytes_of(torch.cat([clip[: self.task.given], predicted]))
            written.append(write_strip(folder / f"test-{i}.png", [true, ours[self.task.given :]]))
            written.append(write_animation(folder / f"test-{i}.gif", [true, ours]))
        return written

    def _unrolled_share(self, step: int) -> float:
        """The probability that a step is unrolled; a budget in seconds has no number of steps, there it is a half."""
        if self.task.training != "scheduled":
            return float(self.task.training == "unrolled")
        if self.config.steps is None and self.config.seconds is not None:
            return 0.5
        return step / (self.config.steps or -(-self.config.tokens // self.tokens_per_step))

    def _predictions(
        self, model: nn.Module, split: Split, limit: int | None
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Clips; their frames to come, each from all true ones before it; the same from the given ones alone.

        A few clips at a time: a thousand would take gigabytes.
        """
        assert isinstance(model, VideoTransformer)
        clips, given = getattr(self.splits, split), self.task.given
        count = len(clips) if limit is None else min(limit, len(clips))
        for first in range(0, count, EVALUATION_CLIPS):
            part = self._stacked(clips, range(first, min(first + EVALUATION_CLIPS, count)))
            with evaluating(model):
                nexts = model(part[:, :-1])[:, given - 1 :]
                continued = model.continued(part[:, :given], self.task.predicted)
            yield part, nexts.clamp(0, 1), continued.clamp(0, 1)

    def _stacked(self, clips: Clips, chosen: Any) -> Tensor:
        return numbers(np.stack([clips.clip(index) for index in chosen]))

    def _mean_frame(self) -> Tensor:
        train = self.splits.train
        draws = np.random.default_rng(self.config.seed)
        chosen = draws.integers(len(train), size=AVERAGED) if len(train) > AVERAGED else range(len(train))
        return self._stacked(train, [int(index) for index in chosen]).mean((0, 1))


@dataclass(frozen=True, kw_only=True)
class VideoPrediction(Task):
    """Video prediction: the frames that come next, by a space-time Transformer.

    Args:
        given: frames that are given.
        predicted: frames that are predicted from them, one from the other.
        size: make all frames so many pixels wide and high; 0 leaves them (moving digits: 64, small ones 32).
        fps: bring video files to so many frames a second; 0 leaves them, at their average pace where it is uneven.
        digits: how many digits move; 0 is two, in small frames one.
        patch: side of a patch, in pixels; must divide the frames.
        head: "motion" moves pixels of the last frame, "change" adds to it, "pixels" draws all anew.
        motions: of the head "motion": how many a patch chooses from at each pixel.
        reach: how far a patch is looked for in the frame before, and may move, in pixels.
        training: "next-frame" learns each frame from true ones, "unrolled" those to come from predicted ones.
            "scheduled" goes from the one to the other: a step is unrolled with a probability that grows from 0 to 1
            over the budget, as in scheduled sampling (Bengio et al. 2015, arXiv:1506.03099), where frames are drawn.

    Raises:
        UserError: a value is not allowed.
    """

    given: int = 10
    predicted: int = 10
    size: int = 0
    fps: float = 0
    digits: int = 0
    patch: int = 8
    head: Literal["motion", "change", "pixels"] = "motion"
    motions: int = 3
    reach: int = 4
    training: Literal["next-frame", "unrolled", "scheduled"] = "scheduled"

    defaults: ClassVar[Mapping[str, Any]] = {
        "data": "moving-digits",
        "d_model": 64,
        "num_heads": 2,
        "num_layers": 3,
        "batch_size": 4,
        "steps": 700,
        "learning_rate": 3e-3,
        "evaluation_tokens": 20_480,
        "score_items": 32,
    }
    comparison: ClassVar[Mapping[str, Any]] = {
        "data": SMALL,
        "schemes": ("pre-norm", "post-norm", "mhc"),
        "layers": (1, 4),
        "seeds": 3,
        "batch_size": 4,
        "steps": (60,),
        "learning_rates": (3e-3,),
        "warm_up": 0.1,
        "evaluations": 3,
        "evaluation_tokens": 5_120,
        "score_items": 32,
    }

    def __post_init__(self) -> None:
        for name in ("given", "predicted", "patch", "motions"):
            check_count(name, getattr(self, name))
        for name in ("size", "reach", "digits"):
            if not isinstance(getattr(self, name), int):
                raise UserError(f"{name}={getattr(self, name)} is not allowed; use a whole number from 0.")
            check_at_least(name, getattr(self, name), 0)
        check_at_least("fps", self.fps, 0)
        if self.fps > MAX_FPS:
            raise UserError(
                f"fps={self.fps} is not allowed; use a number up to {MAX_FPS}, or 0 for the file's own pace."
            )
        if self.head not in HEADS:
            raise unknown("head", str(self.head), HEADS)
        if self.training not in TRAININGS:
            raise unknown("training", str(self.training), TRAININGS)

    def prepare(self, config: RunConfig, reader: Reader | None = None) -> VideoPredictionProblem:
        """The videos loaded.

        Raises:
            UserError: they are missing, damaged, too few, too short, too small, or not of the reader's size.
        """
        check_shape(config, "video-prediction", segments=0)
        splits = self.load(config)
        if isinstance(reader, VideoReader):
            reader.kind.check(splits.shape)
        if min(splits.shape[1:3]) < WINDOW:
            raise UserError(
                f"frames of {splits.shape[1]} x {splits.shape[2]} pixels are too small: SSIM looks at "
                f"{WINDOW} x {WINDOW}; give larger ones, or resize them by size=32."
            )
        return VideoPredictionProblem(config, self, splits)

    def load(self, config: RunConfig) -> VideoSplits:
        """The videos of a run.

        Raises:
            UserError: they are missing, damaged or too short.
        """
        frames, small = self.given + self.predicted, config.data == SMALL
        source, size = ("moving-digits", self.size or 32) if small else (config.data, self.size)
        digits = self.digits or (1 if small else 2)
        return videos.load(source, frames=frames, size=size, digits=digits, fps=self.fps)

    def reader(self, folder: Path) -> VideoReader:
        """The size of the frames that a run was trained on.

        Raises:
            UserError: the file is missing or damaged.
        """
        return VideoReader(self, VideoKind.read(folder))

    def model_fields(self) -> dict[str, Any]:
        """What the body needs to know of these choices."""
        own = asdict(self)
        return {name: own[name] for name in ("patch", "head", "motions", "reach")} | {"margin": self.patch // 2}
