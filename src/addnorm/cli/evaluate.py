"""`addnorm evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from addnorm.checks import check_count
from addnorm.cli.invoke import invoke


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Which run, on which items."""

    run: Path = field(metadata={"positional": "RUN"})
    """Folder of a run, as `addnorm train` and `addnorm compare` leave it."""
    task: str | None = None
    """The Python file of the run's task, where it has one of its own: a run is data, and its folder runs no code."""
    scheme: str | None = None
    """The same of its scheme; the file must be what the run was trained with."""
    split: Literal["test", "validation"] = "test"
    """Of the data."""
    data: str | None = None
    """Other data than the run was trained on, in any form that its task reads. None: those it was trained on."""
    limit: int | None = None
    """Items at most. None: all of the split."""
    baselines: bool = True
    """Also what trivial answers get on the same items."""
    json: bool = False
    """As JSON on standard output, and nothing else there."""

    def __post_init__(self) -> None:
        if self.limit is not None:
            check_count("limit", self.limit)


def command(words: Sequence[str]) -> int:
    """Run the words after `addnorm evaluate`."""
    return invoke(_evaluate, "evaluate", words, EvaluateOptions)


def _evaluate(options: EvaluateOptions) -> int:
    """A trained model by its field's own metrics, each beside what a trivial answer gets.

    The figures also go to RUN/scores-SPLIT.json, pictures and samples beside them where the task makes some.

    Examples:
      addnorm evaluate runs/translation
      addnorm evaluate runs/translation --data other.tsv --limit 500 --json
    """
    from addnorm.cli import console
    from addnorm.cli.progress import Live

    with Live(quiet=options.json) as live:
        live.doing("loading the run and its data")
        from addnorm.training.evaluation import evaluate_run

        result = evaluate_run(
            options.run,
            task=options.task,
            scheme=options.scheme,
            split=options.split,
            data=options.data,
            limit=options.limit,
            baselines=options.baselines,
            on_stage=live.doing,
        )
    if options.json:
        console.print_json(result)
        return 0
    from addnorm.reports.scores import scores_table

    console.out().print(scores_table(result))
    for line in _files(result):
        console.out().print(line, markup=False, soft_wrap=True)
    return 0


def _files(result: dict[str, Any]) -> list[str]:
    return [f"written: {path}" for path in result["files"]]
