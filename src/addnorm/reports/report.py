"""All files of a report, from stored results."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from addnorm.files import write_atomically
from addnorm.reports.figures import write_figures
from addnorm.reports.page import page
from addnorm.reports.table import csv_rows


def write_reports(results: dict[str, Any], out: Path) -> list[Path]:
    """Write results.csv, figures/ (where matplotlib is installed) and report.html; each file whole or not at all.

    Args:
        results: as results.json has them.
        out: the folder; it is made if missing.

    Returns:
        The files that were written.
    """
    table = out / "results.csv"
    write_atomically(table, csv_text(results))
    written = [table, *write_figures(results, out / "figures")]
    return [*written, write_page(results, out)]


def write_page(results: dict[str, Any], out: Path) -> Path:
    """Write report.html alone, whole or not at all."""
    report = out / "report.html"
    write_atomically(report, page(results))
    return report


def csv_text(results: dict[str, Any]) -> str:
    """The table as CSV, numbers as stored."""
    lines = csv_rows(results)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(lines[0]) if lines else ["id"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
