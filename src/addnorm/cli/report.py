"""`addnorm report`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from addnorm.cli.invoke import invoke


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Of which folder."""

    folder: Path = field(metadata={"positional": "FOLDER"})
    """Of a comparison, finished or not, or of `addnorm reproduce`."""
    schemes: tuple[str, ...] = ()
    """Python files of an unfinished comparison's own schemes: its folder is data and runs no code by itself."""
    task: str | None = None
    """The same of its task."""
    json: bool = False
    """Results as JSON on standard output, and nothing else there."""


def command(words: Sequence[str]) -> int:
    """Run the words after `addnorm report`."""
    return invoke(_report, "report", words, ReportOptions)


def _report(options: ReportOptions) -> int:
    """Table, figures and page of a comparison again, from what is stored; nothing is trained.

    Of a comparison that was stopped, of the runs that have ended.

    Examples:
      addnorm report runs/compare-2026-12-01-090000
      addnorm report runs/mine --json
    """
    from addnorm.cli import console

    if (options.folder / "claims.json").is_file():
        from addnorm.reports.claims_page import write_claims_page
        from addnorm.studies.reproduce import load

        claims = load(options.folder)
        page = write_claims_page(claims, options.folder)
        if options.json:
            console.print_json(claims)
        else:
            console.out().print(f"open {page}", markup=False, soft_wrap=True)
        return 0
    results = _results(options)
    from addnorm.reports.report import write_reports

    page, told = write_reports(results, options.folder)[-1], results.get("unfinished")
    more = f"{told['ended']} of {told['total']} runs have ended; " if told else ""
    console.print_comparison(results, f"{more}open {page}", as_json=options.json)
    return 0


def _results(options: ReportOptions) -> dict[str, Any]:
    from addnorm.studies.stored_results import stored_results

    return stored_results(options.folder, schemes=options.schemes, task=options.task)
