"""What a comparison compares, as plain data; imports nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from addnorm.config import RunConfig
from addnorm.errors import unknown
from addnorm.studies.spec_checks import (
    check_lists,
    check_numbers,
    check_scheme,
    refuse_repeats,
    to_tuples_,
)


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """A comparison of residual schemes: every scheme, depth and learning rate is an arm, trained once per seed.

    In all arms of a seed the sublayers start from the same weights and see the same batches.
    """

    schemes: tuple[str, ...] = (
        "pre-norm",
        "post-norm",
        "plain",
        "deep-norm",
        "mhc",
        "block-attention-residuals",
    )
    """Residual schemes: names of `addnorm schemes`, with optional fields: "layer-scale(init=0.1)"."""
    baseline: str = "pre-norm"
    """The scheme that the others are held against; added to the schemes if it is not among them."""
    layers: tuple[int, ...] = (2, 24)
    """Depths, in layers of attention and feed-forward."""
    tokens: tuple[int, ...] = (38_400,)
    """Budget of a run in training tokens: one number, or one for each depth."""
    steps: tuple[int, ...] | None = None
    """Budget of a run in steps instead of tokens: one number, or one for each depth."""
    seconds: tuple[float, ...] | None = None
    """Budget of a run in seconds of training instead of tokens: one number, or one for each depth."""
    # 24 layers, 180 steps, seed 0, warm-up 0.3, nats at 1e-3, 2e-3, 4e-3, 8e-3: pre-norm 3.20, 2.94, 2.76, 2.68;
    # deep-norm 3.00, 2.72, 2.59, 2.64; post-norm and plain stay above 3.34, the unigram entropy, at all four.
    learning_rates: tuple[float, ...] = (4e-3,)
    """Peak learning rates of AdamW."""
    pick: Literal["each", "best"] = "each"
    """With several learning rates: each is an arm of its own, or a scheme is shown at its best for the depth."""
    seeds: int = 5
    """Paired seeds; intervals and decisions need 3 or more."""
    tuning_seeds: int = 1
    """With several learning rates: the first so many seeds choose a scheme's best rate, the others judge it."""
    margin: float = 0.01
    """Differences of loss below it do not matter: schemes whose interval lies inside it are called equal."""
    score_margin: float = 0.5
    """The same for a task's own metric, in its points."""
    error: float = 0.05
    """How often the differences of a comparison, taken together, may hold one that is only chance."""
    until_decided: bool = False
    """Add seeds in rounds (half as many more each time) until every scheme is better, worse or equal, or until
    max_seeds. The error is shared out over the rounds."""
    max_seeds: int = 20
    """The most seeds that until_decided adds up to."""
    seed: int = 0
    """The first seed."""
    workers: int | None = None
    """Runs trained at the same time, each on one thread. None: as many as cores."""
    task: str = "language-modeling"
    """What is learned: a name of `addnorm tasks`, with optional fields, or a Python file that defines a task."""
    data: str = "shakespeare"
    """shakespeare (shipped), a text file, a folder of *.txt (in another encoding than UTF-8: "FILE;encoding=latin-1"),
    or hf:NAME of a `datasets` data set."""
    tokenizer: str = "byte"
    """byte, or bpe:SIZE to train a byte-level BPE of SIZE entries on the training text."""
    d_model: int = 32
    """Width."""
    num_heads: int = 2
    """Attention heads; must divide the width."""
    num_kv_heads: int | None = None
    """Heads of keys and values. None: as many as num_heads."""
    d_ff: int | None = None
    """Inner width of the feed-forward. None: 4 times the width, for SwiGLU 8/3 times."""
    activation: Literal["relu", "gelu", "gelu-tanh", "swiglu"] = "gelu"
    """Of the feed-forward; gelu-tanh is GPT-2's approximation of GELU."""
    arrangement: Literal["sequential", "parallel", "composed"] = "sequential"
    """sequential: a connection each for attention and feed-forward; parallel: both read the same input and share one;
    composed: feed-forward of attention under one."""
    position: Literal["rotary", "learned", "sinusoidal", "none"] = "rotary"
    """How tokens know their place."""
    qk_norm: Literal["rms", "none"] = "none"
    """rms: normalise each head's queries and keys."""
    attention: Literal["fused", "plain", "sliding-window", "linear"] = "fused"
    """fused: all pairs of tokens, by torch's kernel. plain: hold the scores, for schemes that add to them.
    sliding-window: near tokens only, see window. linear: a state of fixed size instead of weights."""
    window: int | None = None
    """Of sliding-window attention: a token sees itself and the window - 1 before it."""
    dropout: float = 0.0
    """On embeddings and on sublayer outputs."""
    attention_dropout: float = 0.0
    """On attention weights."""
    bias: bool = True
    """Whether linears have biases."""
    tie_embeddings: bool = True
    """Whether the head shares the embedding's weights."""
    init: str = "xavier"
    """Initial weights. xavier: Glorot normal. normal: standard deviation 0.02. Or what all runs start from: `minilm`, a
    Hugging Face checkpoint directory, or the folder of a run; it brings its shape, depth and tokenizer."""
    max_tokens: int | None = None
    """The longest input for learned positions. None: 2048, or the context if that is longer."""
    segments: int | None = None
    """Kinds of segment that an encoder tells apart. None: as many as the task has."""
    rotary_base: float = 10000.0
    """Of rotary positions: the larger, the slower the slowest turn."""
    drop_repeats: bool = False
    """Leave out of a user's training text or records what is held out too; else it is counted."""
    skip_bad: bool = False
    """Leave out records that cannot be read, up to a tenth of them, and name them; else the first one stops the run."""
    context: int = 32
    """Tokens in a training sequence."""
    batch_size: int = 8
    """Sequences in a step."""
    warm_up: float = 0.5
    """Share of the budget over which the learning rate rises linearly from zero; 0 is no warm-up."""
    schedule: Literal["cosine", "linear", "wsd", "constant"] = "cosine"
    """What the learning rate does after warm-up; all but constant fall to a tenth, wsd over the last `decay`."""
    decay: float = 0.2
    """Share of the budget over which wsd falls at its end."""
    weight_decay: float = 0.1
    """On matrices; never on gains, biases, embeddings or a connection's parameters."""
    connection_learning_rate: float = 1.0
    """Factor on the learning rate of the connections' own parameters (gates, scales, mixing)."""
    clip_norm: float = 1.0
    """Gradients are scaled down to this global norm; 0 is no clipping."""
    accumulate: int = 1
    """Parts in which a batch goes through a model; the step is that of the whole batch, with less memory."""
    label_smoothing: float = 0.0
    """Probability that the training loss spreads evenly over all classes; the validation loss never does."""
    ema: float = 0.0
    """Decay, a step, of an average of the weights that is evaluated in their place; 0 is none."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: autocast."""
    evaluations: int = 5
    """How often a run's validation loss is measured, evenly over the budget."""
    evaluation_tokens: int = 4_096
    """Held-out tokens a validation loss is taken over."""
    score_items: int = 0
    """Validation items that a run's own metric is taken over at the end; 0 is none."""
    signals: int = 4
    """How often a run's per-site signal flow is measured after initialisation, evenly over the budget."""
    saves: int = 1
    """How often a run writes a checkpoint, evenly over the budget; the last one at its end."""

    def __post_init__(self) -> None:
        to_tuples_(self)
        check_lists(self)
        check_numbers(self)
        baseline = check_scheme(self.baseline)
        chosen = tuple(check_scheme(scheme) for scheme in self.schemes)
        refuse_repeats("schemes", chosen)
        object.__setattr__(self, "baseline", baseline)
        object.__setattr__(self, "schemes", chosen if baseline in chosen else (baseline, *chosen))
        runs(self)  # a RunConfig refuses whatever else is not allowed


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One compared setting: a scheme at a depth and a learning rate."""

    id: str
    """Names the arm's folder."""
    scheme: str
    """The scheme's specification."""
    layers: int
    """The depth."""
    learning_rate: float
    """The peak learning rate."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run of a comparison."""

    arm: Arm
    """The arm that it belongs to."""
    config: RunConfig
    """What is trained, with its seed."""

    @property
    def name(self) -> str:
        """The run's folder inside `runs/`: `post-norm-L24-lr0.002/seed-0`."""
        return f"{self.arm.id}/seed-{self.config.seed}"


def arms(spec: CompareConfig) -> list[Arm]:
    """The arms in the order of the table: by depth, learning rate, scheme."""
    found: dict[str, Arm] = {}
    for layers in spec.layers:
        for rate in spec.learning_rates:
            for scheme in spec.schemes:
                stem = f"{_folder_name(scheme)}-L{layers}-lr{rate:g}"
                name = next(name for name in _numbered(stem) if name not in found)
                found[name] = Arm(id=name, scheme=scheme, layers=layers, learning_rate=rate)
    return list(found.values())


def runs(spec: CompareConfig) -> list[Run]:
    """The runs in the order of training.

    All arms of a seed stand together and each seed starts at another arm, so that a machine that slows down or speeds
    up does so for all arms alike. Deep runs come first within a seed: short ones then fill the workers' last minutes.
    """
    ordered: list[Run] = []
    for number in range(spec.seeds):
        for layers in sorted(spec.layers, reverse=True):
            here = [arm for arm in arms(spec) if arm.layers == layers]
            turn = number * len(here) // max(spec.seeds, 1)
            ordered += [Run(arm=arm, config=_run_config(spec, arm, number)) for arm in here[turn:] + here[:turn]]
    return ordered


def compare_config(values: Mapping[str, Any]) -> CompareConfig:
    """A `CompareConfig` from named values, as a stored `spec.json` or a user's file has them.

    Raises:
        UserError: a field is unknown or not allowed.
    """
    allowed = {field.name for field in fields(CompareConfig)}
    for name in values:
        if name not in allowed:
            raise unknown("field of a comparison", name, allowed)
    return CompareConfig(**values)


def _run_config(spec: CompareConfig, arm: Arm, number: int) -> RunConfig:
    position = spec.layers.index(arm.layers)
    own = {field.name for field in fields(CompareConfig)} - ({"segments"} if spec.segments is None else set())
    shared = {name: value for name, value in _task_defaults(spec.task).items() if name not in own}
    shared |= {field.name: getattr(spec, field.name) for field in fields(RunConfig) if field.name in own}
    shared |= {
        "scheme": arm.scheme,
        "num_layers": arm.layers,
        "learning_rate": arm.learning_rate,
        "tokens": _of_depth(spec.tokens, position),
        "steps": None if spec.steps is None else _of_depth(spec.steps, position),
        "seconds": None if spec.seconds is None else _of_depth(spec.seconds, position),
        "seed": spec.seed + number,
        "max_tokens": spec.max_tokens or max(2048, spec.context),
    }
    return RunConfig(**shared)


def _task_defaults(task: str) -> Mapping[str, Any]:
    """What a task trains with by default; the command's own task has none, and torch is not imported to find out."""
    if task == CompareConfig.task:
        return {}
    from addnorm import tasks
    from addnorm.specification import parts

    return tasks.get(parts("task", task)[0]).defaults


def _of_depth(values: Sequence[Any], position: int) -> Any:
    return values[position] if len(values) > 1 else values[0]


def _folder_name(scheme: str) -> str:
    """A specification as part of a file name: `peri-norm(norm=rms)` is `peri-norm-norm=rms`."""
    return re.sub(r"[^A-Za-z0-9.=_+]+", "-", scheme).strip("-")


def _numbered(stem: str) -> Iterable[str]:
    yield stem
    number = 2
    while True:
        yield f"{stem}-{number}"
        number += 1
