"""`addnorm diagnose`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from addnorm.cli.invoke import invoke

if TYPE_CHECKING:
    from rich.table import Table

    from addnorm.diagnosis.diagnose import Diagnosis, OfTrunk
    from addnorm.diagnosis.loading.loaded import Loaded

SHOWN = {"state rms": "state", "write to state": "write / state", "state gradient": "gradient"}
MOST_ROWS = 60


@dataclass(frozen=True, kw_only=True)
class DiagnoseOptions:
    """Which model, and how closely it is looked at."""

    model: str = field(metadata={"positional": "MODEL"})
    """Folder of a run, folder of transformers (config.json and safetensors), or package.module:factory, FILE.py:factory
    for a function without arguments that returns a model, (model, batch), or (model, batch, targets)."""
    measures: Literal["full", "quick"] = "full"
    """quick: without those that run the model again and again, such as the loss without each block."""
    causal: Literal["auto", "yes", "no"] = "auto"
    """Whether no token may see a later one. auto: as most of its sublayers have it."""
    out: Path | None = None
    """Folder for diagnosis.json, the page diagnosis.html and, with matplotlib, its curves as PNG and SVG; must be new.
    Default: runs/diagnose-DATE-TIME."""
    task: str | None = None
    """The Python file of a run's task, where it has one of its own: a run is data, and its folder runs no code."""
    scheme: str | None = None
    """The same of its scheme; the file must be what the run was trained with."""
    json: bool = False
    """As JSON on standard output, and nothing else there; no folder is written."""


def command(words: Sequence[str]) -> int:
    """Run the words after `addnorm diagnose`."""
    return invoke(_diagnose, "diagnose", words, DiagnoseOptions)


def _diagnose(options: DiagnoseOptions) -> int:
    """Find a model's residual trunk, measure it by depth, and name what is wrong: cause, place, remedy.

    The exit code is 0 if nothing is wrong, 5 if something is.
    """
    from addnorm.cli import console
    from addnorm.cli.failure import DONE, UNSOUND
    from addnorm.cli.folders import folder
    from addnorm.cli.progress import Live

    out = None if options.json else folder("diagnose", options.out, resume=False)
    with Live(quiet=options.json) as live:
        live.doing("loading the model")
        from addnorm.diagnosis.diagnose import diagnose
        from addnorm.diagnosis.loading import load_model

        loaded = load_model(options.model, task=options.task, scheme=options.scheme)
        found = diagnose(
            loaded.model,
            loaded.batch,
            targets=loaded.targets,
            causal={"auto": None, "yes": True, "no": False}[options.causal],
            measures=options.measures,
            on_step=live.doing,
        )
    if out is None:
        console.print_json(found.to_dict())
    else:
        _show(found, loaded.about)
        _write(found, out, loaded)
    return DONE if found.sound else UNSOUND


def _show(found: Diagnosis, about: str) -> None:
    from addnorm.cli import console

    screen = console.out()
    screen.print(f"{found.model}, {found.parameters:,} parameters; on {about or 'its batch'}", markup=False)
    for each in found.trunks:
        screen.print(_table(each))
    if found.sound:
        screen.print("\nNothing wrong was found.")
    for finding in found.findings:
        screen.print(f"\n✗ {finding.cause} at {finding.place}", markup=False, style="bold")
        screen.print(f"  {finding.evidence}\n  {finding.remedy}", markup=False)


def _table(each: OfTrunk) -> Table:
    """Sublayers by depth, thinned where there are many."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    trunk = each.trunk
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False)
    streams = f" of {trunk.streams}" if trunk.streams > 1 else ""
    table.title = Text(f"\n{trunk.name or 'the model'}: {trunk.layout}{streams}, certainty {trunk.certainty:.2f}")
    table.title_justify = "left"
    for name in ("", "sublayer", "kind"):
        table.add_column(name, no_wrap=name != "sublayer")
    curves = {label: each.of(name) for name, label in SHOWN.items()}
    for label in curves:
        table.add_column(label, justify="right", no_wrap=True)
    step = -(-len(trunk.sublayers) // MOST_ROWS)
    for i, sublayer in list(enumerate(trunk.sublayers))[::step]:
        figures = [_figure(curve.values[i]) if curve is not None else "-" for curve in curves.values()]
        table.add_row(*map(Text, (str(i), sublayer.name or sublayer.block or "-", sublayer.kind, *figures)))
    return table


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _write(found: Diagnosis, out: Path, loaded: Loaded) -> None:
    from addnorm.cli import console
    from addnorm.files import write_atomically
    from addnorm.reports.diagnosis_figures import write_diagnosis_figures
    from addnorm.reports.diagnosis_page import write_diagnosis_page

    out.mkdir(parents=True, exist_ok=False)
    write_atomically(out / "diagnosis.json", found.to_json() + "\n")
    page = write_diagnosis_page(found.to_dict(), out, loaded.decode, loaded.words)
    write_diagnosis_figures(found.to_dict(), out)
    console.out().print(f"\nwritten: {page}", markup=False, soft_wrap=True)
