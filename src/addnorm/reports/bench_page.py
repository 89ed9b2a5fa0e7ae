"""The table of a benchmark: as Markdown, and as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from addnorm import bench

HEAD = (
    "| # | what | figure | by processor time | by wall time | to reach (stretch) | reached |",
    "|---:|---|---|---:|---:|---:|---|",
)


def markdown(results: Mapping[str, Any], title: str = "Benchmark") -> str:
    """The whole page, from what `addnorm bench` stored."""
    lines = [f"# {title}", "", *_conditions(results), "", *HEAD]
    for row in results["rows"]:
        lines += [f"| {' | '.join(cells)} |" for cells in _cells(row)]
    lines += ["", "## The rows", ""]
    for row in results["rows"]:
        lines += [*_of_row(row), ""]
    return "\n".join(lines).rstrip() + "\n"


def terminal_lines(results: Mapping[str, Any], names: list[str]) -> Iterator[str]:
    """Some rows, a figure a line."""
    for row in results["rows"]:
        if row["name"] not in names:
            continue
        yield f"{row['number']}. {row['title']} (addnorm bench {row['name']}; {row['wall_s']:.0f} s)"
        for figure in row["figures"]:
            goal = f"   to reach {figure['said_goal']}: {_verdict(row, figure)}" if figure["goal"] else ""
            yield f"   {_said(figure['value'], figure['unit']):<26} {figure['label']}{goal}"
        for note in row["missing"]:
            yield f"   {note}"
        if back := _holds_back(row):
            yield f"   what holds it back: {back}"


def _conditions(results: Mapping[str, Any]) -> list[str]:
    machine, peers = results["machine"], results["peers"]
    versions = {"addnorm": results["addnorm"], "torch": machine["packages"]["torch"], **peers}
    said = ", ".join(f"{name} {version or 'not installed'}" for name, version in versions.items())
    loads = [f"{row['load_before']:.1f}" for row in results["rows"] if row["load_before"] is not None]
    return [
        f"{machine['processor']}, {machine['cores']:g} cores, {machine['instructions']}, {machine['platform']}; "
        f"Python {machine['python']}, {said}. {results['created'][:10]}; load before each row: {', '.join(loads)}.",
        "",
        "All arms of a row run in turns in one process, A B A B, on one thread, after a round that does not count. A "
        "figure is the median over rounds of ratios taken within a round, with the quartiles in brackets and the "
        "number of rounds; processor time decides, wall time stands beside it. What is counted and not timed does not "
        "vary. The process keeps the memory it frees, as `addnorm train` does, for all arms alike.",
    ]


def _cells(row: Mapping[str, Any]) -> Iterator[list[str]]:
    for place, figure in enumerate(row["figures"]):
        yield [
            str(row["number"]) if place == 0 else "",
            row["title"] if place == 0 else "",
            figure["label"],
            _said(figure["value"], figure["unit"]),
            _said(figure["wall"], figure["unit"]) if figure["wall"] else "",
            figure["said_goal"],
            _verdict(row, figure),
        ]
    for note in row["missing"]:
        yield [str(row["number"]) if not row["figures"] else "", "", note, "", "", "", ""]


def _of_row(row: Mapping[str, Any]) -> Iterator[str]:
    command = f"`addnorm bench {row['name']}`, {row['wall_s']:.0f} s"
    yield f"**{row['number']}. {row['title']}** ({command}). {row['measures']}"
    if back := _holds_back(row):
        yield ""
        yield f"What holds it back: {back}"


def _holds_back(row: Mapping[str, Any]) -> str:
    """Why a figure falls short of its target, as the row's docstring says; nothing where all reach theirs."""
    if row["quick"] or all(figure["reached"] is not False for figure in row["figures"]):
        return ""
    known = row["name"] in bench.names()  # what is stored may name a file, and runs no code by itself
    return known and bench.get(row["name"]).holds_back() or "not looked into yet."


def _verdict(row: Mapping[str, Any], figure: Mapping[str, Any]) -> str:
    if figure["reached"] is None:
        return ""
    if row["quick"]:
        return "not judged at this size"
    if not figure["reached"]:
        return "no"
    return "yes, and the stretch" if figure["stretch_reached"] else "yes"


def _said(value: Mapping[str, Any], unit: str) -> str:
    """A median with its quartiles and the number of rounds; a count alone."""
    sign = {"x": "x", "s": " s"}.get(unit, "")
    digits = 2 if unit == "x" else 3
    median = f"{value['median']:.{digits}f}{sign}"
    if value["n"] == 1:
        return median
    return f"{median} [{value['low']:.{digits}f}, {value['high']:.{digits}f}] n={value['n']}"
