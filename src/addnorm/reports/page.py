"""The page: one self-contained HTML file that opens from disk, filled in from stored results."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from addnorm.errors import UserError
from addnorm.reports import charts, diagrams, numbers, page_data, page_table, palette
from addnorm.reports.arm_scores import metrics_html
from addnorm.reports.command import reproduce
from addnorm.reports.mathml import equation_or_text
from addnorm.reports.rate_chart import rate_charts
from addnorm.reports.series import all_series
from addnorm.reports.table import ArmRow, depths, rows
from addnorm.reports.verdict_lines import verdict_lines
from addnorm.reports.wording import asked, headline, load_note, markup_in_words_of

# The page stays below half a megabyte; what is left for the scripts' data follows from the rest.
MOST_BYTES = 480_000

_READING = (
    "“No difference seen” means that the interval includes zero; it does not mean that the schemes are equal.",
    "Tokens a second count training alone, without evaluation and saving. Memory counts the bytes kept for the "
    "backward pass, without parameters.",
)


def page(results: dict[str, Any]) -> str:
    """The whole page as text."""
    parts = {
        "title": escape(results["title"]),
        "version": escape(str(results.get("addnorm", ""))),
        "colours": palette.css_variables(),
        "style": f"{_asset('report.css')}\n{page_table.labels()}",
        "script": "\n".join(map(_asset, ("curves.js", "maps.js", "report.js", "theme.js"))),
        "facts": _facts(results),
        "verdicts": _unfinished(results) + _verdicts(results),
        "reload": '<noscript><meta http-equiv="refresh" content="20"></noscript>' if results.get("unfinished") else "",
        "answers": _answers(results),
        "rates": rate_charts(results),
        "table": page_table.table(results),
        "meanings": page_table.meanings(results),
        "metrics": metrics_html(results),
        "curves": _curves(results),
        "outlines": charts.outlines(),
        "schemes": _schemes(results),
        "statistics": _statistics(results),
        "command": escape(reproduce(results)),
        "failures": _failures(results),
        "environment": pairs(results.get("environment") or {}),
        "specification": pairs(results.get("spec") or {}),
    }
    template = Template(markup_in_words_of(results, _asset("report.html")))
    for name in ("answers", "rates", "table", "meanings", "curves", "statistics", "schemes", "script"):
        parts[name] = markup_in_words_of(results, parts[name])
    room = MOST_BYTES - len(template.substitute(parts, data="").encode())
    return template.substitute(parts, data=page_data.page_data(results, room))


def pairs(values: dict[str, Any]) -> str:
    """Names and values as a description list; nested names are joined by dots."""
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in _flat(values))
    return f'<dl class="pairs">{items}</dl>'


def _flat(values: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, (list, tuple)):
            yield f"{prefix}{name}", ", ".join(map(str, value))
        else:
            yield f"{prefix}{name}", numbers.NONE if value is None else str(value)


def _asset(name: str) -> str:
    return (files("addnorm.reports") / name).read_text(encoding="utf-8")


def _facts(results: dict[str, Any]) -> str:
    data = results.get("data") or {}
    seeds = {seed for arm in results["arms"] for seed in arm.get("seeds", ())}
    known = [
        f"{len(results['arms'])} arms of {len({arm['scheme'] for arm in results['arms']})} schemes",
        f"{_joined(depths(results)[:-1])}{numbers.layers(depths(results)[-1])}",
        f"{len(seeds)} seed{'s' * (len(seeds) != 1)}",
        f"{data['name']}, {data['tokenizer']} tokens" if data.get("name") and data.get("tokenizer") else "",
        _day(results.get("created")),
        f"measured in {numbers.seconds(results['wall_s'])}" if results.get("wall_s") else "",
    ]
    return escape(" · ".join(part.replace(" ", numbers.NBSP) for part in known if part))


def _day(created: Any) -> str:
    try:
        moment = datetime.fromisoformat(str(created))
    except ValueError:
        return ""
    return f"{moment.day} {moment:%B %Y}"


def _answers(results: dict[str, Any]) -> str:
    articles = "".join(
        f"<article><h3>{escape(item['question'])}</h3><p>{escape(item['answer'])}</p></article>"
        for item in asked(results)
    )
    if not articles:
        return "<p>This comparison asks no question; see the table.</p>"
    return f'<div class="answers">{articles}</div>'


def _unfinished(results: dict[str, Any]) -> str:
    """That the comparison goes on; empty where it has ended."""
    if not (told := results.get("unfinished")):
        return ""
    time = str(results.get("created", ""))[11:19]
    return (
        f'<p class="unfinished" role="status">Not finished: {told["ended"]} of {told["total"]} runs had ended at '
        f"{escape(time)} UTC. Figures may still change; the page reloads itself.</p>"
    )


def _verdicts(results: dict[str, Any]) -> str:
    first = headline(results)
    alert = f'<p class="alert" role="note">{escape(first)}</p>' if first else ""
    return alert + verdict_lines(results)


def _curves(results: dict[str, Any]) -> str:
    unigram = numbers.finite((results.get("data") or {}).get("unigram_entropy"))
    figures = []
    for layers in depths(results):
        here = [item for item in all_series(results) if item.layers == layers]
        for axis, name in charts.AXIS_NAMES.items():
            caption = f"Validation loss against {name}, {numbers.layers(layers)}"
            drawn = charts.loss_chart(here, axis, unigram)
            figures.append(f"<figure>{drawn}<figcaption>{caption}</figcaption></figure>")
    return "".join(figures)


def _schemes(results: dict[str, Any]) -> str:
    by_scheme: dict[str, list[ArmRow]] = {}
    for row in rows(results):
        by_scheme.setdefault(row.arm["scheme"], []).append(row)
    return "".join(_card(scheme, group) for scheme, group in by_scheme.items())


def _card(scheme: str, group: list[ArmRow]) -> str:
    arm = group[0].arm
    verdicts = "".join(
        f"<li>{page_table.verdict(row.verdict)}, {numbers.layers(row.layers)}"
        f'{_rate(row, group)}<span class="reason">{escape(row.verdict_text)}</span></li>'
        for row in group
    )
    return (
        f'<article class="card"><h3>{escape(scheme)}</h3><p class="title">{escape(arm.get("title", ""))}</p>'
        f'<div class="formulas">{equation_or_text(arm.get("equation", ""))}</div>'
        f'<div>{_diagram(arm, scheme)}</div><div><p class="cite">{_reference(arm.get("reference", ""))}</p>'
        f'<ul class="verdicts">{verdicts}</ul></div></article>'
    )


def _rate(row: ArmRow, group: list[ArmRow]) -> str:
    several = len({other.arm["learning_rate"] for other in group}) > 1
    return f", learning rate {row.arm['learning_rate']:g}" if several else ""


def _diagram(arm: dict[str, Any], scheme: str) -> str:
    """The drawing, or the words themselves where a later version has words that this one cannot draw."""
    words = arm.get("diagram") or ""
    try:
        return diagrams.draw(words, scheme)
    except UserError:
        return f"<code>{escape(words)}</code>"


def _reference(text: str) -> str:
    """The reference with its arXiv numbers as links."""
    safe = escape(text)
    for word in text.replace(";", " ").replace(",", " ").split():
        if word.startswith("arXiv:"):
            number = escape(word.removeprefix("arXiv:").rstrip("."), quote=True)
            safe = safe.replace(f"arXiv:{number}", f'<a href="https://arxiv.org/abs/{number}">arXiv:{number}</a>', 1)
    return safe


def _statistics(results: dict[str, Any]) -> str:
    if results.get("notes"):
        return _notes([*results["notes"], *_READING, load_note(results)])
    compared = [row for row in rows(results) if row.cells["difference"].half_width is not None]
    times = {arm["layers"]: arm["equal_time_s"] for arm in results["arms"] if arm.get("equal_time_s")}
    spans = ", ".join(f"{numbers.seconds(time)} at {numbers.layers(layers)}" for layers, time in sorted(times.items()))
    notes = [
        "All arms of a seed start from the same sublayer weights and see the same batches, so a difference is taken "
        "seed by seed and what the seed does to both cancels.",
        "Intervals are 95 % intervals of Student's t over n seeds. They say how far the mean would move with other "
        "seeds, not with other data, sizes or budgets. With n = 1 there is none.",
        f"The intervals are not corrected for multiple comparisons: of {len(compared)} differences whose truth is "
        f"zero, about {0.05 * len(compared):.1f} would look real by chance.",
        f"Equal time is the time in which the fastest run of a depth spends its budget{f' ({spans})' if spans else ''}."
        " Slower schemes are read in the middle of their schedule there.",
    ]
    return _notes([*notes, *_READING, load_note(results)])


def _notes(notes: Iterable[str]) -> str:
    return f'<ul class="notes">{"".join(f"<li>{escape(note)}</li>" for note in notes)}</ul>'


def _failures(results: dict[str, Any]) -> str:
    """Runs that ended with an error, if any."""
    failures = results.get("failures") or ()
    items = "".join(f"<li>{escape(item['run'])}: {escape(item['error'])}</li>" for item in failures)
    return f'<h3>Runs that failed</h3><ul class="notes">{items}</ul>' if items else ""


def _joined(others: list[int]) -> str:
    """What stands before the last of several depths."""
    return f"{', '.join(map(str, others))} and " if others else ""
