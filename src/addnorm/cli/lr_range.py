"""`addnorm lr-range`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from addnorm.cli.invoke import invoke
from addnorm.cli.options import Watching
from addnorm.cli.task_defaults import of_task
from addnorm.config import RunConfig, Sweep

if TYPE_CHECKING:
    from rich.table import Table

    from addnorm.training.lr_range import RangeTest

ROWS = 20
"""Rows of the table."""


@dataclass(frozen=True, kw_only=True)
class LrRangeOptions(Sweep, Watching):
    """Which rates, and what to do with what was seen."""

    config: Path | None = None
    """TOML or JSON file with any of the run's fields above, such as a run's config.json; flags override it."""
    out: Path | None = None
    """File to write the test to as JSON. Default: none is written."""
    json: bool = False
    """The test as JSON on standard output, and nothing else there."""


def command(words: Sequence[str]) -> int:
    """Run the words after `addnorm lr-range`."""
    return invoke(_lr_range, "lr-range", words, RunConfig, LrRangeOptions, complete=of_task("defaults"))


def _lr_range(config: RunConfig, options: LrRangeOptions) -> int:
    """Find a learning rate: one short run of the model that `addnorm train` would train, at rising rates.

    Examples:
      addnorm lr-range --scheme mhc --depth 12
      addnorm lr-range --task translation --low 1e-5 --high 0.1 --points 100
    """
    from addnorm.cli import console

    test = _run(config, options)
    values: dict[str, Any] = asdict(test)
    if options.out is not None:
        from addnorm.files import write_json

        write_json(options.out, {"config": asdict(config), **values})
    if options.json:
        console.print_json(values)
        return 0
    console.out().print(_table(test))
    console.out().print(_advice(test), markup=False, soft_wrap=True)
    return 0


def _run(config: RunConfig, options: LrRangeOptions) -> RangeTest:
    from addnorm.cli.progress import Live

    with Live(options.json or options.quiet, options.log_every) as live:
        live.doing("loading torch")
        from addnorm.training.lr_range import range_test

        return range_test(config, options, on_point=live.of_sweep)


def _table(test: RangeTest) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False)
    for heading in ("learning rate", "loss", "smoothed"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    marks = {test.suggested: "steepest fall", test.lowest: "lowest", test.diverged: "diverges"}
    every = max(len(test.rates) // ROWS, 1)
    for i, rate in enumerate(test.rates):
        if i % every == 0 or rate in marks:
            table.add_row(f"{rate:.2e}", f"{test.losses[i]:.3f}", f"{test.smoothed[i]:.3f}", marks.get(rate, ""))
    return table


def _advice(test: RangeTest) -> str:
    if test.suggested is None:
        return "\nno rate of the range lowered the loss; begin with a lower --low, or look at the data and the scheme"
    return f"\nsuggested: --learning-rate {test.suggested:.1e}, with a warm-up"
