"""What docs/figures.toml says: which command made which figure of README and docs, and where its value is read."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docs" / "figures.toml"
NUMBER = re.compile(r"(?<![\w.])[-+−]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Numbers of one piece of text, and where each is read."""

    text: str
    """As it stands on the page, each number between braces."""
    values: tuple[str, ...]
    """A path for each number, such as `arms[scheme=mhc,layers=8].validation_loss.mean * 100`; of a script a regular
    expression with one group."""
    at: str = ""
    """What all paths begin with."""
    read: str = ""
    """`json` (what --json prints), `stdout`, or a file of the run's folder."""
    within: float = 0.0
    """The share by which a figure may be off; 0: what rounding to the digits shown hides."""
    page: str = ""
    """Where it is not the entry's."""

    @property
    def plain(self) -> str:
        """The text as it stands on the page."""
        return self.text.replace("{", "").replace("}", "")

    @property
    def shown(self) -> list[str]:
        """The numbers as they stand on the page."""
        return re.findall(r"\{(.*?)\}", self.text)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Commands that are run one after the other, and the figures that they make."""

    name: str
    page: str
    lines: tuple[str, ...] = ()
    cpu_s: float = 0.0
    figures: tuple[Figure, ...] = ()
    kind: Literal["command", "generated", "once"] = "command"
    """`generated`: the commands write the whole page. `once`: cannot be run again here, for the reason `why`."""
    why: str = ""

    @property
    def pages(self) -> set[str]:
        """Where its figures stand."""
        return {self.page, *(figure.page for figure in self.figures if figure.page)}


@dataclass(frozen=True, kw_only=True)
class Row:
    """What became of one figure."""

    page: str
    figure: str
    shown: str
    now: str
    moved: bool


def entries(file: Path = FILE) -> list[Entry]:
    """The commands of docs/figures.toml."""
    return [_entry(item) for item in tomllib.loads(file.read_text(encoding="utf-8"))["command"]]


def _entry(item: dict[str, Any]) -> Entry:
    figures = tuple(_figure(figure) for figure in item.get("figures", ()))
    fields: dict[str, Any] = {**item, "lines": tuple(item.get("lines", ())), "figures": figures}
    return Entry(**fields)


def _figure(item: dict[str, Any]) -> Figure:
    fields: dict[str, Any] = {**item, "values": tuple(item["values"])}
    return Figure(**fields)


def pages_without_figures(file: Path = FILE) -> dict[str, str]:
    """Pages that show nothing measured, with the reason."""
    return tomllib.loads(file.read_text(encoding="utf-8"))["without"]


def look_up(data: Any, path: str) -> float:
    """A number by its path.

    >>> look_up({"arms": [{"scheme": "mhc", "loss": {"mean": 0.5}}]}, "arms[scheme=mhc].loss.mean * 100")
    50.0

    Raises:
        LookupError: it is not there.
    """
    path, _, pattern = path.partition(" ~ ")
    path, _, factor = path.partition(" * ")
    found = data
    for name, choice in re.findall(r"([^.\[\]]+)|\[(.*?)\]", path):
        found = _chosen(found, choice) if choice else found[name]
    if pattern:
        return _matched(found, pattern)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise LookupError(f"{path} is {found!r}, not a number")
    return found * float(factor or 1)


def _chosen(items: Sequence[Any], choice: str) -> Any:
    """`[2]`, or the one item whose fields are as said: `[scheme=mhc,layers=8]`."""
    if "=" not in choice:
        return items[int(choice)]
    wanted = dict(part.split("=", 1) for part in re.split(r",(?=\w+=)", choice))
    found = [item for item in items if all(str(item.get(key)) == value for key, value in wanted.items())]
    if len(found) != 1:
        raise LookupError(f"{len(found)} items with {choice}")
    return found[0]


def number(shown: str) -> Decimal:
    """A number as a page writes it.

    >>> number("−0.237"), number("38,400")
    (Decimal('-0.237'), Decimal('38400'))
    """
    return Decimal(shown.replace("−", "-").replace(",", ""))


def rounded(value: float, shown: str) -> Decimal:
    """A value to the digits of a shown one: rounded(0.05, "3e-3") is 0.050."""
    return Decimal(repr(value)).quantize(Decimal(1).scaleb(int(number(shown).as_tuple().exponent)))


def compared(figure: Figure, page: str, source: Any) -> list[Row]:
    """The figure's numbers beside those of the source: JSON, or text."""
    rows = []
    for shown, path in zip(figure.shown, figure.values, strict=True):
        try:
            value = _matched(source, path) if isinstance(source, str) else look_up(source, figure.at + path)
            now = rounded(value, shown)
            moved = abs(value - float(number(shown))) > figure.within * abs(float(number(shown)))
            text, moved = str(now), moved if figure.within else now != number(shown)
        except (LookupError, TypeError, InvalidOperation) as error:
            text, moved = f"not found: {error}", True
        rows.append(Row(page=figure.page or page, figure=figure.plain, shown=shown, now=text, moved=moved))
    return rows


def _matched(text: str, pattern: str) -> float:
    """The number that a pattern finds in a text."""
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        raise LookupError(pattern)
    return float(number(found[1]))


def moved_on_page(page: str, before: str, after: str) -> Iterator[Row]:
    """Numbers of a generated page that are no longer the same, line beside line."""
    old, new = _lines(before), _lines(after)
    for tag, i, j, k, m in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        for n in range(max(j - i, m - k)):
            was, now = old[i + n] if i + n < j else "", new[k + n] if k + n < m else ""
            shown, here = NUMBER.findall(was), NUMBER.findall(now)
            if len(shown) != len(here):
                yield Row(page=page, figure=(was or now), shown=" ".join(shown), now=" ".join(here), moved=True)
                continue
            for left, right in zip(shown, here, strict=True):
                if left != right:
                    yield Row(page=page, figure=was, shown=left, now=right, moved=True)


def _lines(text: str) -> list[str]:
    """Of Markdown the lines; of HTML what is read, without drawings, an element a line."""
    text = re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL)
    return [line for line in re.sub(r"</?\w[^<>]*>", "\n", text).splitlines() if line.strip()]
