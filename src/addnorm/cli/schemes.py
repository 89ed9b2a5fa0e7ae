"""`addnorm schemes`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from addnorm.checks import check_at_least
from addnorm.cli.invoke import invoke
from addnorm.errors import UserError
from addnorm.reports.numbers import layers

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from addnorm.schemes._describe import Description


@dataclass(frozen=True, kw_only=True)
class SchemesOptions:
    """Which scheme, and at which width its parameters are counted."""

    name: str | None = field(default=None, metadata={"positional": "SCHEME"})
    """One scheme to show in full, with optional fields: "layer-scale(init=0.1)", or a Python file that defines one.
    Default: all, as a table."""
    d_model: int = 512
    """Width at which parameters are counted."""
    num_layers: int = 12
    """Depth at which parameters are counted."""
    json: bool = False
    """As JSON on standard output."""

    def __post_init__(self) -> None:
        for name, most in (("d_model", 1_000_000), ("num_layers", 1000)):
            value = getattr(self, name)
            check_at_least(name, value, 1)
            if value > most:  # a connection a sublayer is built to count its parameters
                raise UserError(f"{name}={value} is not allowed; use {most} or less.")


def command(words: Sequence[str]) -> int:
    """Run the words after `addnorm schemes`."""
    return invoke(_schemes, "schemes", words, SchemesOptions)


def _schemes(options: SchemesOptions) -> int:
    """Show the catalogue of residual schemes, or one scheme with its fields.

    In the equations x is the stream, F the sublayer and n its normalisation.
    """
    from addnorm import schemes
    from addnorm.cli import console

    chosen = schemes.names() if options.name is None else (options.name,)
    rows = [_row(specification, options) for specification in chosen]
    if options.json:
        console.print_json(rows if options.name is None else rows[0])
    elif options.name is None:
        console.out().print(_table(rows, options))
    else:
        for part in _page(rows[0]):
            console.out().print(part)
    return 0


def _row(specification: str, options: SchemesOptions) -> dict[str, Any]:
    """A scheme's description and its counted parameters."""
    from addnorm import schemes
    from addnorm.schemes._describe import describe

    scheme = schemes.parse(specification)
    description: Description = describe(schemes.name_of(scheme))
    start = scheme.starts_as()
    return {
        **asdict(description),
        "specification": schemes.format(scheme),
        "starts_as": None if start is None else schemes.format(start),
        "parameters": _parameters(scheme, options),
    }


def _parameters(scheme: Any, options: SchemesOptions) -> dict[str, Any]:
    """What the scheme adds to bare sublayers, counted on its modules; built without memory, on the meta device."""
    import torch

    from addnorm.stack import sites

    def count(module: torch.nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    with torch.device("meta"):
        places = sites(2 * options.num_layers, kinds=("attention", "feedforward"))
        each = [count(scheme.connection(options.d_model, site)) for site in places]
        ends = {"entrance": count(scheme.entrance(options.d_model)), "exit": count(scheme.exit(options.d_model))}
    return {
        "d_model": options.d_model,
        "num_layers": options.num_layers,
        "per_sublayer": [min(each), max(each)],
        **ends,
        "total": sum(each) + sum(ends.values()),
    }


def _table(rows: Sequence[dict[str, Any]], options: SchemesOptions) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False)
    table.add_column("scheme", no_wrap=True)
    table.add_column("equation", overflow="fold")
    table.add_column("parameters", justify="right")
    table.add_column("starts as")
    table.add_column("reference")
    for row in rows:
        cells = (row["equation"], _range(row["parameters"]), row["starts_as"] or "-", row["reference"])
        table.add_row(row["name"], *map(Text, cells), end_section=True)
    table.caption = (
        f"parameters: of the connection a sublayer, d_model={options.d_model}, {layers(options.num_layers)}. "
        "`addnorm schemes NAME` shows cost and fields."
    )
    table.caption_justify = "left"
    return table


def _range(parameters: dict[str, Any]) -> str:
    low, high = parameters["per_sublayer"]
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _page(row: dict[str, Any]) -> Iterator[Text | Table]:
    """A scheme in full: name, equation, what is known of it, its fields."""
    from rich.text import Text

    counted = row["parameters"]
    yield Text(f"{row['specification']}\n{row['title']}\n")
    yield Text("\n".join(f"    {line}" for line in row["equation"].splitlines()) + "\n")
    parameters = (
        f"{_range(counted)} a sublayer, entrance {counted['entrance']:,}, exit {counted['exit']:,}; "
        f"{counted['total']:,} in all (d_model={counted['d_model']}, {layers(counted['num_layers'])})"
    )
    facts = [
        ("reference", row["reference"]),
        ("starts as", row["starts_as"] or "no other scheme"),
        ("cost", row["cost"]),
        ("parameters", parameters),
        *(("note", note) for note in row["notes"]),
    ]
    yield _grid(facts)
    yield Text("\nfields")
    yield _grid([(f"  {item['name']} = {item['default']}", item["text"]) for item in row["fields"]])


def _grid(rows: Sequence[tuple[str, str]]) -> Table:
    """Names, and beside them their texts, wrapped."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column()
    for name, text in rows:
        grid.add_row(Text(name), Text(text))
    return grid
