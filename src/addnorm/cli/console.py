"""Where a command prints: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from addnorm.cli.failure import harmless
from addnorm.files import finite

# A pipe or a file has no width; the widest table of the reports takes about 120 columns.
WIDTH_OF_A_FILE = 140


def out() -> Console:
    """Standard output; colour only on a terminal and without NO_COLOR, which rich sees to."""
    return _console(stderr=False)


def err() -> Console:
    """Standard error: progress and warnings."""
    return _console(stderr=True)


def print_json(value: Any) -> None:
    """A value as JSON on standard output; NaN and infinity as strings."""
    print(json.dumps(finite(value), indent=2, allow_nan=False, default=str))


def print_comparison(results: dict[str, Any], last: str, *, as_json: bool) -> None:
    """A comparison as its table and a last line, or as JSON alone."""
    if as_json:
        print_json(results)
        return
    from addnorm.reports.terminal import ComparisonTable

    out().print(ComparisonTable(results=results))
    out().print(f"\n{last}", markup=False, soft_wrap=True)


class _Harmless(Console):
    """A console that prints names of files and errors of others, and has the terminal obey none of them."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=harmless(segment.text))

    def on_broken_pipe(self) -> None:
        """As any other print: the command ends as one whose reader has had enough."""
        raise BrokenPipeError


def _console(stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    narrow = stream is not None and stream.isatty()
    width = None if narrow or os.environ.get("COLUMNS", "").isdigit() else WIDTH_OF_A_FILE
    return _Harmless(stderr=stderr, highlight=False, width=width)
