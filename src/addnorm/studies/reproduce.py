"""Runs claims one after the other and stores what each found, as soon as it is found."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from addnorm.errors import UserError
from addnorm.files import write_json
from addnorm.json_file import read_object
from addnorm.studies.claim import Claim, Judgement, Line, Measured, OnProgress
from addnorm.studies.claims import format, name_of, names, parse
from addnorm.training.lock import FolderLock
from addnorm.version import __version__

FILE = "claims.json"


@dataclass(frozen=True, kw_only=True)
class ReproduceProgress:
    """Where a reproduction stands."""

    claim: str
    number: int
    count: int
    share: float
    """How much of this claim's experiment is done."""


def chosen(wanted: Sequence[str]) -> list[Claim]:
    """The claims of these texts at their own size, or at that of the text; all without a text.

    Raises:
        UserError: no claim has one of the names, or a field is not allowed.
    """
    return [parse(text) for text in dict.fromkeys(wanted or names())]


def reproduce(
    claims: Sequence[Claim],
    folder: Path,
    on_progress: Callable[[ReproduceProgress], None] | None = None,
) -> dict[str, Any]:
    """Run the claims and store their outcomes in `folder/claims.json`; other claims' outcomes there are kept.

    Returns:
        What the file holds.

    Raises:
        UserError: the folder is a file, or holds a claims.json that cannot be read.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; give a folder for the claims with --out.")
    with FolderLock(folder):  # now, not after the first claim's minutes; of two, the later would undo the earlier
        return _reproduced(claims, folder, on_progress)


def _reproduced(
    claims: Sequence[Claim], folder: Path, on_progress: Callable[[ReproduceProgress], None] | None
) -> dict[str, Any]:
    """Run the claims in a folder that is ours alone."""
    stored = load(folder)
    for number, claim in enumerate(claims, start=1):

        def tell(share: float, claim: Claim = claim, number: int = number) -> None:
            if on_progress is not None:
                on_progress(ReproduceProgress(claim=name_of(claim), number=number, count=len(claims), share=share))

        tell(0.0)
        outcomes = {item["name"]: item for item in stored["claims"]} | {name_of(claim): outcome(claim, tell)}
        stored = _results([outcomes[name] for name in sorted(outcomes)])
        write_json(folder / FILE, stored)
    return load(folder)


def outcome(claim: Claim, progress: OnProgress = lambda share: None) -> dict[str, Any]:
    """One claim with what its experiment found, as plain data."""
    began = time.perf_counter()
    measured = claim.measure(progress)
    wall_s = time.perf_counter() - began
    return {**described(claim), **_found(claim.judge(measured)), **_plot(claim, measured), "wall_s": wall_s}


def described(claim: Claim) -> dict[str, Any]:
    """What a claim says and how it is tested, as plain data."""
    texts = ("title", "statement", "number", "reference", "experiment", "embedding", "criterion")
    return {
        "name": name_of(claim),
        "specification": format(claim),
        **{name: getattr(claim, name) for name in texts},
        "about": claim.about,
        "size": {field.name: getattr(claim, field.name) for field in fields(claim)},
    }


def load(folder: Path) -> dict[str, Any]:
    """What a folder holds; no claims where it has no file yet.

    Raises:
        UserError: the file is not readable.
    """
    path = folder / FILE
    if not path.exists():
        return _results([])
    try:
        stored = read_object(path)
        return {**stored, "claims": [dict(item, name=item["name"]) for item in stored["claims"]]}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not a readable list of claims ({error}); give another folder with --out."
        ) from error


def _results(outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return {"addnorm": __version__, "created": created, "claims": outcomes}


def _found(finding: Judgement) -> dict[str, Any]:
    return {
        "verdict": finding.verdict,
        "quantity": finding.quantity,
        "figure": finding.figure.as_dict(),
        "sentence": finding.sentence,
        "elsewhere": {text: _found(other) for text, other in finding.elsewhere.items()},
    }


def _plot(claim: Claim, measured: Measured) -> dict[str, Any]:
    """Every measured value, by line, place and seed; those that the figure has, and the others."""
    shown = claim.shown(measured)
    others = [line for name, line in measured.items() if name not in shown]
    return {"axes": asdict(claim.axes), "lines": _plain(shown.values()), "other_lines": _plain(others)}


def _plain(lines: Iterable[Line]) -> list[dict[str, Any]]:
    return [
        {"label": line.label, "x": sorted(line.points), "y": [list(line.points[x]) for x in sorted(line.points)]}
        for line in lines
    ]
