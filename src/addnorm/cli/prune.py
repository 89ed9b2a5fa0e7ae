"""`addnorm prune`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from addnorm.checks import check_count
from addnorm.cli.invoke import invoke

if TYPE_CHECKING:
    from rich.table import Table

    from addnorm.diagnosis.layer_influence import Pruned


@dataclass(frozen=True, kw_only=True)
class PruneOptions:
    """What is pruned, and by how much."""

    model: Path = field(metadata={"positional": "MODEL"})
    """Folder of a run, or of a language model of transformers: config.json, safetensors, tokenizer.json."""
    layers: int = 1
    """How many layers are dropped."""
    out: Path | None = None
    """Where the pruned model is written; must be new. Default: runs/prune-DATE-TIME."""
    task: str | None = None
    """The Python file of the run's task, where it has one of its own: a run is data, and its folder runs no code."""
    scheme: str | None = None
    """The same of its scheme; the file must be what the run was trained with."""
    data: str = "shakespeare"
    """A text on which a model of transformers is judged; a run is judged on its own data."""
    json: bool = False
    """As JSON on standard output, and nothing else there."""

    def __post_init__(self) -> None:
        check_count("layers", self.layers)


def command(words: Sequence[str]) -> int:
    """Run the words after `addnorm prune`."""
    return invoke(_prune, "prune", words, PruneOptions)


def _prune(options: PruneOptions) -> int:
    """Drop the layers of a model that change its state least, and say what that costs.

    A layer's influence is 1 less the cosine of what goes in and what comes out (ShortGPT, arXiv:2403.03853). The pruned
    model of a run is a run: evaluate it, or train it further with `addnorm train --resume --out FOLDER`.
    """
    from addnorm.cli import console
    from addnorm.cli.folders import folder
    from addnorm.cli.progress import Live

    with Live(quiet=options.json) as live:
        live.doing("loading the model")
        pruned = _pruned(options, folder("prune", options.out, resume=False))
    if options.json:
        console.print_json(asdict(pruned))
        return 0
    screen = console.out()
    screen.print(_table(pruned))
    before, after = pruned.parameters
    screen.print(
        f"\n{pruned.loss_name}: {pruned.before:.4f} before, {pruned.after:.4f} after; {before:,} parameters, "
        f"then {after:,}; written: {pruned.out}",
        markup=False,
        soft_wrap=True,
    )
    return 0


def _pruned(options: PruneOptions, out: Path) -> Pruned:
    """A run says so by its checkpoints; all else is for transformers."""
    if (options.model / "checkpoints").is_dir() or not (options.model / "config.json").is_file():
        from addnorm.diagnosis.prune_run import prune_run

        return prune_run(options.model, options.layers, out, task=options.task, scheme=options.scheme)
    from addnorm.diagnosis.prune_folder import prune_folder

    return prune_folder(options.model, options.layers, out, data=options.data)


def _table(pruned: Pruned) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False)
    table.add_column("layer", justify="right")
    table.add_column("influence", justify="right")
    table.add_column("")
    for layer, influence in enumerate(pruned.influences):
        table.add_row(str(layer), f"{influence:.4f}", "dropped" if layer in pruned.dropped else "")
    return table
