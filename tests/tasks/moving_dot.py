"""Videos of a dot that moves, as folders of frames, and a small run on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from addnorm import tasks
from addnorm.tasks.video_prediction import VideoPredictionProblem

Image = pytest.importorskip("PIL.Image")
TASK = "video-prediction(given=3, predicted=3, patch=4, reach=2, motions=2)"
SIDE, LENGTH = 12, 24


def dot_video(seed: int, side: int = SIDE, length: int = LENGTH) -> np.ndarray:
    """A square of 3 x 3 that goes one or two pixels a frame and comes back from the edges."""
    draws = np.random.default_rng(seed)
    place, step = draws.integers(0, side - 3, 2), draws.choice([-2, -1, 1, 2], 2)
    frames = np.zeros((length, side, side), np.uint8)
    for frame in frames:
        frame[place[0] : place[0] + 3, place[1] : place[1] + 3] = 255
        step = np.where((place + step < 0) | (place + step > side - 3), -step, step)
        place = place + step
    return frames


def write_frames(folder: Path, frames: np.ndarray) -> Path:
    folder.mkdir(parents=True)
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{i:03d}.png")
    return folder


def config_of(data: object, **changes: object):
    fields = {"data": str(data), "d_model": 32, "num_heads": 2, "num_layers": 2, "batch_size": 8, "steps": 4}
    fields |= {"evaluation_tokens": 540, "evaluations": 1, "signals": 1, "score_items": 4}
    return tasks.config(**({"task": TASK} | fields | changes))


def problem_of(data: object, **changes: object) -> VideoPredictionProblem:
    problem = tasks.prepare(config_of(data, **changes))
    assert isinstance(problem, VideoPredictionProblem)
    return problem


def write_videos(folder: Path) -> Path:
    for seed in range(24):
        write_frames(folder / f"video-{seed}", dot_video(seed))
    return folder
