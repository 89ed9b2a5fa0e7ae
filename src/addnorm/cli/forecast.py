"""`addnorm forecast`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from addnorm.cli.invoke import invoke
from addnorm.cli.task_defaults import of_task
from addnorm.studies.spec import CompareConfig

if TYPE_CHECKING:
    from rich.table import Table

    from addnorm.studies.forecast import Forecast

DEPTHS = 5
"""Depths of a curve in the table, from the entrance to the exit."""


@dataclass(frozen=True, kw_only=True)
class ForecastOptions:
    """How much is done."""

    training: bool = True
    """Train a few short runs a scheme, for the learning rate and the warm-up; the rest takes seconds."""
    config: Path | None = None
    """TOML or JSON file with any of the fields above; flags override it."""
    json: bool = False
    """All curves as JSON on standard output, and nothing else there."""


def command(words: Sequence[str]) -> int:
    """Run the words after `addnorm forecast`."""
    return invoke(_forecast, "forecast", words, CompareConfig, ForecastOptions, complete=of_task("comparison"))


def _forecast(spec: CompareConfig, options: ForecastOptions) -> int:
    """Say what schemes will do at a size before any is trained: theory beside what a fresh model shows.

    Sizes of the stream and of gradients by depth, memory, arithmetic, the largest learning rate of a short range test,
    and whether a warm-up is needed at the first of --learning-rates. Budgets and seeds have no part in it.
    """
    from addnorm.cli import console
    from addnorm.cli.progress import Live

    with Live(quiet=options.json) as live:
        live.doing("loading torch")
        from addnorm.studies.forecast import SOURCES, forecast

        found = forecast(spec, train=options.training, on_point=live.of_sweep)
    if options.json:
        console.print_json({"sources": SOURCES, "forecasts": [_values(one) for one in found]})
        return 0
    screen = console.out()
    screen.print(_costs(found), _curves(found, "state_rms", "RMS of the stream"), sep="\n")
    screen.print(_curves(found, "state_grad_norm", "gradient of the loss, of that at the exit"))
    screen.print("\n".join(f"{name.replace('_', ' ')}: {text}" for name, text in SOURCES.items()), markup=False)
    return 0


def _values(one: Forecast) -> dict[str, Any]:
    """All of it, and what is derived."""
    derived: dict[str, Any] = {"largest_rate": one.largest_rate, "predicts_warm_up": one.predicts_warm_up}
    if one.predicted is not None:
        derived["amplification"] = one.predicted.amplification
    if one.warm_up is not None:
        derived["warm_up_verdict"] = one.warm_up.verdict
    return asdict(one) | derived


def _costs(found: Sequence[Forecast]) -> Table:
    from addnorm.cli.cost_table import amount

    grid = _grid("params", "training memory", "kept/token", "FLOPs/token", "moved/token", "warm-up", "largest rate")
    for one in found:
        rate = "-" if one.largest_rate is None else f"{one.largest_rate:.1e}"
        grid.add_row(
            *_name(one),
            amount(one.parameters, ""),
            amount(one.training_bytes, "B"),
            amount(one.activation_bytes, "B"),
            amount(one.flops, ""),
            amount(one.traffic, "B"),
            _warm_up(one),
            rate,
        )
    grid.caption = (
        "training memory: weights, gradients and Adam's moments in float32, and what one batch keeps. moved: read and "
        "written by a step's operations, none fused. warm-up: predicted / measured. largest rate: before the loss rose."
    )
    grid.caption_justify = "left"
    return grid


def _warm_up(one: Forecast) -> str:
    predicted = {None: "no theory", True: "needed", False: "not needed"}[one.predicts_warm_up]
    return predicted if one.warm_up is None else f"{predicted} / {one.warm_up.verdict}"


def _curves(found: Sequence[Forecast], name: str, title: str) -> Table:
    """Predicted and measured at a few depths."""
    shares = [place / (DEPTHS - 1) for place in range(DEPTHS)]
    grid = _grid(*(f"{share:.0%}" for share in shares))
    grid.title, grid.title_justify = f"\n{title} by depth: predicted / measured", "left"
    for one in found:
        curves = [None if one.predicted is None else asdict(one.predicted)[name], one.measured.get(name)]
        grid.add_row(*_name(one), *(" / ".join(_at(curve, share, name) for curve in curves) for share in shares))
    return grid


def _at(curve: list[float] | None, share: float, name: str) -> str:
    if not curve:
        return "-"
    value, end = curve[round(share * (len(curve) - 1))], curve[-1]
    if name.endswith("grad_norm"):
        return f"{value / end:.3g}" if end else "-"
    return f"{value:.3g}"


def _name(one: Forecast) -> tuple[Any, str]:
    from rich.text import Text

    return Text(one.scheme), str(one.layers)


def _grid(*headings: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    grid = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False)
    grid.add_column("scheme", no_wrap=True)
    grid.add_column("layers", justify="right", no_wrap=True)
    for heading in headings:
        grid.add_column(heading, justify="right", overflow="fold")
    return grid
