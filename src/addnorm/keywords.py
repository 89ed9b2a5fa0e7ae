"""The fields of the dataclasses of choices, as keywords; written by scripts/build_keywords.py.

A dataclass tells a checker what its own constructor takes, not what a function takes that hands keywords on to it.
"""

from __future__ import annotations

from typing import Literal, TypedDict


class LayerShapeKeywords(TypedDict, total=False):
    """Those of `addnorm.config.LayerShape`."""

    d_model: int
    num_heads: int
    num_kv_heads: int | None
    d_ff: int | None
    activation: Literal["relu", "gelu", "gelu-tanh", "swiglu"]
    arrangement: Literal["sequential", "parallel", "composed"]
    position: Literal["rotary", "learned", "sinusoidal", "none"]
    rotary_base: float
    dropout: float
    attention_dropout: float
    qk_norm: Literal["rms", "none"]
    attention: Literal["fused", "plain", "sliding-window", "linear"]
    window: int | None
    bias: bool
    tie_embeddings: bool


class ModelKeywords(LayerShapeKeywords, total=False):
    """Those of `addnorm.config.ModelConfig`."""

    num_layers: int
    max_tokens: int
    segments: int
    vocab_size: int
    init: Literal["xavier", "normal"]
    count_padding: bool


class VideoKeywords(LayerShapeKeywords, total=False):
    """Those of `addnorm.models.video.VideoConfig`."""

    num_layers: int
    max_tokens: int
    segments: int
    height: int
    width: int
    channels: int
    patch: int
    margin: int
    head: Literal["motion", "change", "pixels"]
    motions: int
    reach: int
    init: Literal["xavier", "normal"]


class RecipeKeywords(LayerShapeKeywords, total=False):
    """Those of `addnorm.config.Recipe`."""

    evaluations: int
    evaluation_tokens: int
    signals: int
    saves: int
    score_items: int
    track: tuple[Literal["tensorboard", "trackio"], ...] | None
    warm_up: float
    schedule: Literal["cosine", "linear", "wsd", "constant"]
    decay: float
    weight_decay: float
    connection_learning_rate: float
    clip_norm: float
    accumulate: int
    label_smoothing: float
    ema: float
    patience: int
    spike: float
    rollbacks: int
    max_bad_steps: int
    precision: Literal["float32", "bfloat16"]
    memory: Literal["keep", "rebuild", "checkpoint"]
    seed: int
    task: str
    data: str
    tokenizer: str
    init: str
    drop_repeats: bool
    skip_bad: bool
    context: int
    batch_size: int
    max_tokens: int | None
    segments: int | None


class RunKeywords(RecipeKeywords, total=False):
    """Those of `addnorm.config.RunConfig`."""

    scheme: str
    num_layers: int
    tokens: int
    steps: int | None
    seconds: float | None
    learning_rate: float


class CompareKeywords(RecipeKeywords, total=False):
    """Those of `addnorm.studies.spec.CompareConfig`."""

    schemes: tuple[str, ...]
    baseline: str
    layers: tuple[int, ...]
    tokens: tuple[int, ...]
    steps: tuple[int, ...] | None
    seconds: tuple[float, ...] | None
    learning_rates: tuple[float, ...]
    pick: Literal["each", "best"]
    seeds: int
    tuning_seeds: int
    margin: float
    score_margin: float
    error: float
    until_decided: bool
    max_seeds: int
    workers: int | None
