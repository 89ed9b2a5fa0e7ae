"""The page of claims: one self-contained HTML file that opens from disk, filled in from stored outcomes."""

from __future__ import annotations

import shlex
from collections import Counter
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from addnorm.files import write_atomically
from addnorm.reports import charts, numbers, palette
from addnorm.reports.claim_chart import NARROW, claim_chart
from addnorm.studies.claim import VERDICTS
from addnorm.studies.statistics import FEWEST

FILE = "claims.html"
TITLE = "What papers claim, and what these experiments found"
# Verdicts differ by sign and word, not by colour alone.
_MARKS = dict(zip(VERDICTS, (("good", "✓"), ("bad", "✗"), ("open", "?")), strict=True))


def write_claims_page(results: dict[str, Any], folder: Path) -> Path:
    """Write the page beside the stored outcomes."""
    path = folder / FILE
    write_atomically(path, claims_page(results))
    return path


def claims_page(results: dict[str, Any]) -> str:
    """The whole page as text.

    Args:
        results: what claims.json holds.
    """
    outcomes = results["claims"]
    return Template(_asset("claims.html")).substitute(
        title=escape(TITLE),
        version=escape(str(results.get("addnorm", ""))),
        colours=palette.css_variables(),
        style=_asset("report.css"),
        own_style=_asset("claims.css"),
        outlines=charts.outlines(),
        facts=escape(_facts(results)),
        verdicts=_verdicts(outcomes),
        schemes=_schemes(outcomes),
        claims="\n".join(map(_claim, outcomes)),
        script=_asset("claims.js") + _asset("theme.js"),
    )


def _asset(name: str) -> str:
    return (files("addnorm.reports") / name).read_text(encoding="utf-8")


def _facts(results: dict[str, Any]) -> str:
    outcomes = results["claims"]
    counts = [(sum(item["verdict"] == verdict for item in outcomes), verdict) for verdict in VERDICTS]
    wall_s = sum(float(item["wall_s"]) for item in outcomes)
    parts = [f"{len(outcomes)} claims", *(f"{count} {verdict}" for count, verdict in counts if count)]
    return " · ".join([*parts, f"measured in {numbers.seconds(wall_s)}", str(results.get("created", ""))[:10]])


def _verdicts(outcomes: list[dict[str, Any]]) -> str:
    """One choice a verdict that occurs, with its number of claims."""
    counts = Counter(item["verdict"] for item in outcomes)
    choices = [("", "all", len(outcomes)), *((verdict, _mark(verdict), counts[verdict]) for verdict in VERDICTS)]
    return "".join(
        f'<input type="radio" name="verdict" id="verdict-{i}" value="{verdict}"{"" if verdict else " checked"}>'
        f'<label for="verdict-{i}">{words}&nbsp;<span class="count">{count}</span></label>'
        for i, (verdict, words, count) in enumerate(choices)
        if count or not verdict
    )


def _schemes(outcomes: list[dict[str, Any]]) -> str:
    """One choice a scheme that a claim is about, with its number of claims."""
    counts = Counter(scheme for item in outcomes for scheme in item["about"])
    return "".join(
        f'<option value="{escape(scheme, quote=True)}">{escape(scheme)} ({count})</option>'
        for scheme, count in sorted(counts.items())
    )


def _mark(verdict: str) -> str:
    kind, sign = _MARKS.get(verdict, ("open", "?"))  # type: ignore[call-overload]
    return f'<span class="mark {kind}"><span aria-hidden="true">{sign} </span>{escape(verdict)}</span>'


def _figure(item: dict[str, Any]) -> str:
    """The number that decided, with its interval where there are seeds enough for one."""
    figure = item["figure"]
    half = numbers.finite(figure["half_width"])
    spread = f" ± {numbers.short(half)}" if half is not None and figure["n"] >= FEWEST else ""
    return f"{numbers.short(figure['mean'])}{spread} (n = {figure['n']})"


def _claim(item: dict[str, Any]) -> str:
    name = escape(item["name"], quote=True)
    again = escape(shlex.quote(item.get("specification", item["name"])))
    facts = [
        ("Paper’s figure", escape(item["number"])),
        ("Experiment", escape(item["experiment"])),
        ("Embedding", escape(item.get("embedding", "not stated"))),
        ("Counts as reproduced if", escape(item["criterion"])),
        ("Measured", f"{escape(item['quantity'])}: {escape(_figure(item))}"),
        ("Schemes", escape(", ".join(item["about"]))),
        ("Reference", links(item["reference"])),
        ("Again", f"<code>addnorm reproduce {again}</code>, {numbers.seconds(item['wall_s'])} here"),
    ]
    for text, one in item.get("elsewhere", {}).items():  # older files have none
        facts.append((f"At {escape(text)}", f"{_mark(one['verdict'])}. {escape(one['sentence'])}"))
    listed = "".join(f"<dt>{term}</dt><dd>{text}</dd>" for term, text in facts)
    # Open, so that all is there without scripts; a script folds it.
    return (
        f'<details class="claim" id="{name}" data-verdict="{escape(item["verdict"], quote=True)}" '
        f'data-schemes="{escape(" ".join(item["about"]), quote=True)}" open>'
        f"<summary><h3>{escape(item['title'])}</h3>{_mark(item['verdict'])}"
        f'<span class="figure">{escape(_figure(item))}</span></summary>'
        f'<div class="body"><div class="words"><p class="statement">{escape(item["statement"])}</p>'
        f'<p class="found">{_mark(item["verdict"])}. {escape(item["sentence"])}</p></div>'
        f"<figure>{claim_chart(item)}{claim_chart(item, NARROW)}"
        f"<figcaption>{escape(_caption(item['axes']))}</figcaption></figure><dl>{listed}</dl></div></details>"
    )


def _caption(axes: dict[str, Any]) -> str:
    text = f"{axes['y']} against {axes['x']}, mean over seeds"
    return text[:1].upper() + text[1:]


def links(reference: str) -> str:
    """A reference with its arXiv numbers as links.

    >>> links("Xiong et al. 2020, arXiv:2002.04745")
    'Xiong et al. 2020, <a href="https://arxiv.org/abs/2002.04745">arXiv:2002.04745</a>'
    """
    words = []
    for word in escape(reference).split(" "):
        bare = word.rstrip(".,;")
        number = bare.removeprefix("arXiv:")
        link = f'<a href="https://arxiv.org/abs/{number}">{bare}</a>{word[len(bare) :]}'
        words.append(link if number != bare else word)
    return " ".join(words)
