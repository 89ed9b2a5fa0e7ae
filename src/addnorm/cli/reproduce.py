"""`addnorm reproduce`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from addnorm.cli.invoke import invoke

if TYPE_CHECKING:
    from addnorm.studies.claim import Claim


@dataclass(frozen=True, kw_only=True)
class ReproduceOptions:
    """Which claims, and where their results go."""

    claims: tuple[str, ...] = field(default=(), metadata={"positional": "CLAIM"})
    """Claims to test, by name, at another size if need be: "NAME(seeds=3)"; or Python files that define one. --list
    shows them. Default: all."""
    out: Path | None = None
    """Folder for claims.json and claims.html; results of other claims in it stay.
    Default: runs/reproduce-DATE-TIME."""
    list: bool = False
    """Show the claims with their references, and stop."""
    json: bool = False
    """As JSON on standard output, and nothing else there."""


def command(words: Sequence[str]) -> int:
    """Run the words after `addnorm reproduce`."""
    return invoke(_reproduce, "reproduce", words, ReproduceOptions)


def _reproduce(options: ReproduceOptions) -> int:
    """Test what papers claim with experiments of this machine's size; all claims take under 40 minutes on two cores.

    Each claim ends as reproduced, not reproduced, or not testable at this size.
    """
    from addnorm.cli import console
    from addnorm.studies.claims import name_of
    from addnorm.studies.reproduce import chosen, described

    claims = chosen(options.claims)
    if not options.list:
        return _run(claims, options)
    if options.json:
        console.print_json([described(claim) for claim in claims])
        return 0
    for claim in claims:
        console.out().print(f"{name_of(claim)}\n  {claim.title}\n  {claim.reference}", markup=False, soft_wrap=True)
    return 0


def _run(claims: Sequence[Claim], options: ReproduceOptions) -> int:
    from addnorm.cli import console
    from addnorm.cli.folders import folder
    from addnorm.reports.claims_page import write_claims_page

    out = folder("reproduce", options.out, resume=False)
    results = _results(claims, out, options)
    page = write_claims_page(results, out)
    if options.json:
        console.print_json({**results, "folder": out})
        return 0
    for line in _lines(results, page):
        console.out().print(line, markup=False, soft_wrap=True)
    return 0


def _results(claims: Sequence[Claim], out: Path, options: ReproduceOptions) -> dict[str, Any]:
    from addnorm.cli.progress import Live
    from addnorm.reports.claims_page import write_claims_page
    from addnorm.studies.reproduce import load, reproduce

    with Live(quiet=options.json) as live:
        try:
            return reproduce(claims, out, live.of_claims)
        except KeyboardInterrupt:
            write_claims_page(load(out), out)  # of the claims that were done
            raise


def _lines(results: dict[str, Any], page: Path) -> list[str]:
    """A verdict and a sentence a claim, then the counts."""
    found = results["claims"]
    lines = [f"{item['verdict']}: {item['name']} ({item['wall_s']:.1f} s)\n  {item['sentence']}" for item in found]
    verdicts = list(dict.fromkeys(item["verdict"] for item in found))
    counts = [f"{sum(item['verdict'] == verdict for item in found)} {verdict}" for verdict in verdicts]
    return [*lines, f"{', '.join(counts)}; {page}"]
