"""How long one waits before anything happens."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import ClassVar, Self

from addnorm.bench.alternation import alternate
from addnorm.bench.peers import X_TRANSFORMERS, installed, missing
from addnorm.bench.ratios import spread
from addnorm.bench.row import Figure, Goal, OnProgress, Result, Row, Times

TORCH, OURS, HELP, THEIRS = "import torch", "import addnorm", "addnorm --help", "import x_transformers"
# Names of the package are loaded on first use; a bare import would measure nothing.
FIRST_USE = "import torch, addnorm; addnorm.Transformer, addnorm.Stack, addnorm.schemes.get('pre-norm')()"


@dataclass(frozen=True, kw_only=True)
class StartUp(Row):
    """Seconds of import over torch's own import, and of `addnorm --help`."""

    rounds: int = 7
    imports: Goal = Goal(target=0.2, better="lower")
    helps: Goal = Goal(target=0.3, better="lower")

    number: ClassVar[int] = 9
    title: ClassVar[str] = "import and help"
    measures: ClassVar[str] = (
        "Seconds of a new process that imports addnorm and takes a model, the stack and a scheme from it, less those "
        "of one that imports torch; the same of x-transformers; and seconds of `addnorm --help`. Processor time is "
        "that of the process and what it starts."
    )

    def measure(self, progress: OnProgress) -> Result:
        """Processes in turns; the difference to torch is taken within a round."""
        scripts = {TORCH: TORCH, OURS: FIRST_USE}
        if installed(X_TRANSFORMERS):
            scripts[THEIRS] = f"import torch, {THEIRS.split()[1]}"
        words = {name: ("-c", script) for name, script in scripts.items()} | {HELP: ("-m", "addnorm", "--help")}
        times = alternate({name: lambda own=own: _run(own) for name, own in words.items()}, self.rounds, progress)
        goals = {OURS: self.imports, THEIRS: None}
        figures = [_less(name, times[name], times[TORCH], goal) for name, goal in goals.items() if name in times]
        figures.append(
            Figure(
                label=HELP,
                value=spread(times[HELP].cpu_s),
                wall=spread(times[HELP].wall_s),
                goal=self.helps,
                unit="s",
            )
        )
        return Result(figures=tuple(figures), rounds=times, missing=missing([X_TRANSFORMERS]))

    @classmethod
    def quick(cls) -> Self:
        """One round."""
        return cls(rounds=1)


def _less(name: str, these: Times, torchs: Times, goal: Goal | None) -> Figure:
    cpu, wall = (
        [this - that for this, that in zip(getattr(these, clock), getattr(torchs, clock), strict=True)]
        for clock in ("cpu_s", "wall_s")
    )
    return Figure(label=f"{name}, less {TORCH}", value=spread(cpu), wall=spread(wall), goal=goal, unit="s")


def _run(words: tuple[str, ...]) -> None:
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
