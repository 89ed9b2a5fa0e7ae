"""What a comparison compares, as plain data; imports nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from addnorm.checks import Count, Depth, NotNegative, Probability, Seconds, Whole
from addnorm.config import Recipe, RunConfig
from addnorm.errors import UserError, unknown
from addnorm.studies.spec_checks import ErrorRate, Seeds, check_scheme, refuse_repeats


@dataclass(frozen=True, kw_only=True)
class CompareConfig(Recipe):
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
    """Residual schemes: names of `addnorm schemes`, with optional fields: "layer-scale(init=0.1)"; or Python files that
    define one: "./mine.py(alpha=0.3)"."""
    baseline: str = "pre-norm"
    """The scheme that the others are held against; added to the schemes if it is not among them."""
    layers: tuple[Depth, ...] = (2, 24)
    """Depths, in layers of attention and feed-forward."""
    tokens: tuple[Count, ...] = (38_400,)
    """Budget of a run in training tokens: one number, or one for each depth."""
    steps: tuple[Count, ...] | None = None
    """Budget of a run in steps instead of tokens: one number, or one for each depth."""
    seconds: tuple[Seconds, ...] | None = None
    """Budget of a run in seconds of training instead of tokens: one number, or one for each depth."""
    # 24 layers, 180 steps, seed 0, warm-up 0.3, nats at 1e-3, 2e-3, 4e-3, 8e-3: pre-norm 3.20, 2.94, 2.76, 2.68;
    # deep-norm 3.00, 2.72, 2.59, 2.64; post-norm and plain stay above 3.34, the unigram entropy, at all four.
    learning_rates: tuple[NotNegative, ...] = (4e-3,)
    """Peak learning rates of AdamW."""
    pick: Literal["each", "best"] = "each"
    """With several learning rates: each is an arm of its own, or a scheme is shown at its best for the depth."""
    seeds: Seeds = 5
    """Paired seeds; intervals and decisions need 3 or more."""
    tuning_seeds: Seeds = 1
    """With several learning rates: the first so many seeds choose a scheme's best rate, the others judge it."""
    margin: NotNegative = 0.01
    """Differences of loss below it do not matter: schemes whose interval lies inside it are called equal."""
    score_margin: NotNegative = 0.5
    """The same for a task's own metric, in its points."""
    error: ErrorRate = 0.05
    """How often the differences of a comparison, taken together, may hold one that is only chance."""
    until_decided: bool = False
    """Add seeds in rounds (half as many more each time) until every scheme is better, worse or equal, or until
    max_seeds. The error is shared out over the rounds."""
    max_seeds: Seeds = 20
    """The most seeds that until_decided adds up to."""
    workers: Count | None = None
    """Runs trained at the same time, each on one thread. None: as many as cores."""
    # Smaller and shorter than a training run, of which a comparison makes dozens; the rest of the recipe is the same.
    d_model: Count = 32
    num_heads: Count = 2
    context: Count = 32
    warm_up: Probability = 0.5
    evaluations: Count = 5
    evaluation_tokens: Count = 4_096
    score_items: Whole = 0
    signals: Whole = 4

    def __post_init__(self) -> None:
        self._to_tuples_()
        super().__post_init__()
        self._check_lists()
        self._check_seeds()
        baseline = check_scheme(self.baseline)
        chosen = tuple(check_scheme(scheme) for scheme in self.schemes)
        refuse_repeats("schemes", chosen)
        object.__setattr__(self, "baseline", baseline)
        object.__setattr__(self, "schemes", chosen if baseline in chosen else (baseline, *chosen))
        runs(self)  # refuses a task that does not exist, and a seed beyond the last

    def _to_tuples_(self) -> None:
        """Lists, as JSON and TOML give them, and lone values become tuples."""
        for name in ("schemes", "layers", "tokens", "steps", "seconds", "learning_rates"):
            value = getattr(self, name)
            if isinstance(value, (str, int, float)):
                value = (value,)
            if value is not None:
                object.__setattr__(self, name, tuple(value))

    def _check_lists(self) -> None:
        """Refuse empty lists, values that come twice, and budgets that are neither one for all nor one for each depth.

        Raises:
            UserError: which list, and what is wrong with it.
        """
        for name in ("schemes", "layers", "tokens", "learning_rates"):
            if not getattr(self, name):
                raise UserError(f"{name} is empty; give at least one.")
        for name in ("layers", "learning_rates"):
            refuse_repeats(name, getattr(self, name))
        for name in ("tokens", "steps", "seconds"):
            values = getattr(self, name)
            if values is not None and len(values) not in (1, len(self.layers)):
                raise UserError(
                    f"{name} has {len(values)} values for {len(self.layers)} depths; give one for all, or one for each."
                )

    def _check_seeds(self) -> None:
        """Refuse numbers of seeds that do not fit one another.

        Raises:
            UserError: which, and what to give.
        """
        if self.until_decided and self.max_seeds < self.seeds:
            raise UserError(f"max_seeds={self.max_seeds} is below seeds={self.seeds}; give as many or more.")
        if self.pick == "best" and len(self.learning_rates) > 1 and self.seeds <= self.tuning_seeds:
            raise UserError(
                f"seeds={self.seeds} leaves none to judge by: the first {self.tuning_seeds} choose the learning rate "
                "(tuning_seeds); give more seeds."
            )


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
    """A specification as part of a file name that is not hidden: `peri-norm(norm=rms)` is `peri-norm-norm=rms`."""
    return re.sub(r"[^A-Za-z0-9.=_+]+", "-", scheme).strip("-.")[-100:]


def _numbered(stem: str) -> Iterable[str]:
    yield stem
    number = 2
    while True:
        yield f"{stem}-{number}"
        number += 1
