"""The space-time Transformer: the frames of a video so far to the next one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from addnorm.checks import Count, Whole
from addnorm.choices import takes_fields_of
from addnorm.config import Shape, config_of
from addnorm.errors import UserError
from addnorm.keywords import VideoKeywords
from addnorm.layers.cache import KVCache
from addnorm.layers.context import Context
from addnorm.layers.initialise import InitRule
from addnorm.layers.inside import Inside
from addnorm.layers.motion import Change, FrameHead, Motion, Pixels, likeness, windows
from addnorm.layers.position import LearnedPosition, added_position
from addnorm.layers.space_time import SpaceAttention, TimeAttention
from addnorm.models.body import Body
from addnorm.models.sublayers import SublayerRecipe, attention_options, feedforward, stack_of
from addnorm.residual import Scheme
from addnorm.stack import Later, Stack

if TYPE_CHECKING:
    from jaxtyping import Float

HEADS = ("motion", "change", "pixels")
NEEDED_OF_VIDEO = ("height", "width")


@dataclass(frozen=True, kw_only=True)
class VideoConfig(Shape):
    """The shape of a space-time Transformer; `position` says how a patch knows its time.

    Args:
        height, width, channels: of a frame.
        patch: pixels of a patch's side; must divide height and width.
        margin: pixels around a patch that its token sees too.
        head: how pixels are made: see `addnorm.layers.motion`.
        motions: of the head "motion".
        reach: pixels that a patch is looked for around its place in the frame before; and of the head "motion".
        init: of linears and embeddings, as in `ModelConfig`.
    """

    height: Count
    width: Count
    channels: Count = 1
    patch: Count = 8
    margin: Whole = 4
    head: Literal["motion", "change", "pixels"] = "motion"
    motions: Count = 3
    reach: Whole = 4
    init: InitRule = "xavier"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.height % self.patch or self.width % self.patch:
            raise UserError(
                f"patch={self.patch} does not divide frames of {self.height} x {self.width}; "
                "give a patch that does, or resize the frames."
            )

    @property
    def patches(self) -> int:
        """Of a frame."""
        return (self.height // self.patch) * (self.width // self.patch)


class VideoTransformer(Body):
    """Predicts each next frame of a video from those before, under any residual scheme.

        token_(t,p) = W [window_p(x_(t-1)), window_p(x_t)] + S likeness_p(x_(t-1), x_t) + position
        layer = time attention, space attention, feed-forward;    prediction of x_(t+1) = head(hidden_t, x_t)

    A layer is three sublayers with a connection each. Time attention is causal, space attention within one frame, so
    that all frames are predicted in one forward. Divided space-time attention: Bertasius et al. 2021, arXiv:2102.05095;
    tokens of two frames' patches (tubelets), here one for every frame: Arnab et al. 2021, arXiv:2103.15691.
    `likeness` and the heads: see `addnorm.layers.motion`.

    Args:
        scheme: the residual scheme, or its text, such as "mhc(streams=4)".
        seed: of the initial weights.
        calibration: a typical video batch, where the scheme needs it, or "later": see `Body.calibrate_`.
        shape: the fields of `VideoConfig`.

    Raises:
        UserError: a field is unknown, missing or not allowed; the scheme needs a calibration and none came.

    Examples:
        >>> import torch, addnorm
        >>> model = VideoTransformer("pre-norm", height=16, width=16, d_model=32, num_heads=2, num_layers=1)
        >>> model(torch.rand(1, 5, 1, 16, 16)).shape
        torch.Size([1, 5, 1, 16, 16])
    """

    reads = "a batch of videos"
    config: VideoConfig

    @takes_fields_of(VideoConfig, NEEDED_OF_VIDEO)
    def __init__(
        self,
        scheme: Scheme | str,
        *,
        seed: int = 0,
        calibration: Tensor | Later | None = None,
        **shape: Unpack[VideoKeywords],
    ) -> None:
        super().__init__(scheme, calibration)
        self.config = config = config_of(VideoConfig, shape, NEEDED_OF_VIDEO)
        window = config.patch + 2 * config.margin
        self.patches = nn.Linear(2 * config.channels * window**2, config.d_model)
        self.shifts = nn.Linear((2 * config.reach + 1) ** 2, config.d_model, bias=False)
        self.place = LearnedPosition(config.patches, config.d_model)
        self.time = added_position(config.position, config.max_tokens, config.d_model)
        self.stack = _stack(self.scheme, config)
        self.head = _head(config)
        self.start_(seed, calibration)

    def example(self) -> tuple[Tensor, ...]:
        config = self.config
        return (self.patches.weight.new_zeros(1, 2, config.channels, config.height, config.width),)

    def forward(
        self,
        frames: Float[Tensor, "batch frames channels height width"],
        cache: KVCache | None = None,
        before: Float[Tensor, "batch channels height width"] | None = None,
    ) -> Float[Tensor, "batch frames channels height width"]:
        """For every frame, the one that comes after it.

        Args:
            frames: pixels from 0 to 1.
            cache: keys and values of earlier frames; `frames` are then the new ones only.
            before: the frame before the first of these; None = there is none.
        """
        self._check(frames)
        hidden = self.stack(self._embedded(frames, before, cache.tokens if cache else 0), Context(cache=cache))
        hidden = hidden.unflatten(1, (-1, self.config.patches)).flatten(0, 1)
        return self.head(hidden, frames.flatten(0, 1)).unflatten(0, frames.shape[:2])

    def unrolled(
        self, given: Float[Tensor, "batch given channels height width"], count: int
    ) -> Float[Tensor, "batch given+count-1 channels height width"]:
        """Predictions of all frames but the first: of the given ones from those before, then of `count` more.

        Each of the `count` is predicted from the given ones and the predictions before it. A frame goes through the
        model once: keys and values of the frames before are kept.
        """
        cache = KVCache()
        predicted = [self(given, cache)]
        before = given[:, -1]
        for _ in range(count - 1):
            last = predicted[-1][:, -1:]
            predicted.append(self(last, cache, before))
            before = last[:, 0]
        return torch.cat(predicted, dim=1)

    def continued(
        self, given: Float[Tensor, "batch given channels height width"], count: int
    ) -> Float[Tensor, "batch count channels height width"]:
        """The `count` frames that come after the given ones, each predicted from those before it."""
        return self.unrolled(given, count)[:, -count:]

    def _embedded(self, frames: Tensor, before: Tensor | None, start: int) -> Tensor:
        """The tokens: patches of each frame and of the one before it; the first is its own predecessor."""
        first = frames[:, :1] if before is None else before[:, None]
        earlier = torch.cat([first, frames[:, :-1]], dim=1).flatten(0, 1)
        tokens = self._patch_vectors(earlier, frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        if self.time is not None:
            times = torch.arange(start, start + frames.shape[1], device=frames.device)
            tokens = tokens + self.time(times, tokens.dtype)[:, None]
        tokens = tokens.flatten(1, 2)
        return F.dropout(tokens, self.config.dropout, self.training) if self.config.dropout else tokens

    def _patch_vectors(self, before: Tensor, now: Tensor) -> Float[Tensor, "n patches d_model"]:
        """Pixels of two frames, how like they are, and the place."""
        patch, margin, reach = self.config.patch, self.config.margin, self.config.reach
        cut = windows(torch.cat([before, now], dim=1), patch, margin).flatten(2)
        places = torch.arange(self.config.patches, device=now.device)
        return self.patches(cut) + self.shifts(likeness(before, now, patch, reach)) + self.place(places, cut.dtype)

    def _check(self, frames: Tensor) -> None:
        wanted = (self.config.channels, self.config.height, self.config.width)
        if frames.dim() != 5 or frames.shape[2:] != wanted or not frames.is_floating_point():
            raise UserError(
                f"a video of shape {tuple(frames.shape)} and dtype {frames.dtype} came; "
                f"give floats from 0 to 1 of shape (batch, frames, channels, height, width) = (., ., {wanted})."
            )


def _stack(scheme: Scheme, config: VideoConfig) -> Stack:
    size = (config.d_model, config.num_heads, config.patches)
    sliding = config.attention == "sliding-window"  # a window is one of frames; a frame's patches are no line

    def over_time(inside: Inside) -> nn.Module:
        return TimeAttention(*size, attention_options(config, inside))

    def over_space(inside: Inside) -> nn.Module:
        return SpaceAttention(*size, attention_options(config, inside, rotary=False, full=sliding))

    layer: list[SublayerRecipe] = [("attention", over_time), ("attention", over_space), feedforward(config)]
    return stack_of(scheme, config, layer)


def _head(config: VideoConfig) -> FrameHead:
    size = (config.d_model, config.patch, config.channels)
    if config.head == "motion":
        return Motion(*size, config.motions, config.reach)
    return Change(*size) if config.head == "change" else Pixels(*size)
