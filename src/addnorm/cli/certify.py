"""`addnorm certify`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from addnorm.cli.invoke import invoke

if TYPE_CHECKING:
    from rich.table import Table

    from addnorm.certificates.certificate import Certificate


@dataclass(frozen=True, kw_only=True)
class CertifyOptions:
    """Which scheme, and with what it is compared."""

    scheme: str = field(metadata={"positional": "SCHEME"})
    """The scheme, with optional fields: "mhc(streams=3)"; or a Python file that defines one."""
    against: str | None = None
    """A scheme that it should equal; what differs is named. Default: none, since the scheme is the catalogue's own."""
    json: bool = False
    """As JSON on standard output."""


def command(words: Sequence[str]) -> int:
    """Run the words after `addnorm certify`."""
    return invoke(_certify, "certify", words, CertifyOptions)


def _certify(options: CertifyOptions) -> int:
    """Find out by behaviour what a scheme computes: who sees whom, what it starts as, what learns, what it costs.

    The exit code is 0 if no finding fails, 5 if one does.
    """
    from addnorm import schemes
    from addnorm.cli import console
    from addnorm.cli.failure import DONE, UNSOUND
    from addnorm.cli.progress import Live

    scheme = schemes.parse(options.scheme)
    against = None if options.against is None else schemes.parse(options.against)
    with Live(quiet=options.json) as live:
        live.doing("certifying")
        from addnorm.certificates.certify import certify

        certificate = certify(scheme, against=against)
    if options.json:
        console.print_json(certificate.to_dict())
    else:
        console.out().print(_table(certificate))
    return DONE if certificate.holds else UNSOUND


def _table(certificate: Certificate) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    about = certificate.subject
    if certificate.against is not None:
        about += f" against {certificate.against}"
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False, title=Text(about))
    table.title_justify = "left"
    table.add_column("finding", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("figure", justify="right", no_wrap=True)
    table.add_column("what was found")
    for finding in certificate.findings:
        figure = "-" if finding.figure is None else f"{finding.figure:.4g}"
        table.add_row(*map(Text, (finding.name, finding.verdict, figure, finding.sentence)))
    failing = len(certificate.failing)
    table.caption = "nothing fails" if not failing else f"{failing} of {len(certificate.findings)} findings fail"
    table.caption_justify = "left"
    return table
