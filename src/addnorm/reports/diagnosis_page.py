"""The page of a diagnosis: one self-contained HTML file that opens from disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from addnorm.files import write_atomically
from addnorm.reports import charts, numbers, palette
from addnorm.reports.depth_curve import depth_curve
from addnorm.reports.depth_map import depth_map
from addnorm.reports.trunk_drawing import trunk_drawing

FILE = "diagnosis.html"
# Curves that are drawn, and whether on a logarithmic axis; what is not here stands in the JSON.
CURVES = {
    "state rms": True,
    "write to state": True,
    "state gradient": True,
    "relative weight gradient": True,
    "Lipschitz estimate": True,
    "effective rank": False,
    "token similarity": False,
    "block influence": False,
    "loss without": False,
    "relative attention entropy": False,
    "attention to the first": False,
    "stream similarity": False,
    "forward gain": True,
    "lens divergence": False,
    "logit attribution": False,
}
LENS_TOKENS = 12

Decode = Callable[[int], str]


def write_diagnosis_page(
    diagnosis: dict[str, Any], folder: Path, decode: Decode | None = None, words: Sequence[str] = ()
) -> Path:
    """Write the page into a folder."""
    path = folder / FILE
    write_atomically(path, diagnosis_page(diagnosis, decode, words))
    return path


def diagnosis_page(diagnosis: dict[str, Any], decode: Decode | None = None, words: Sequence[str] = ()) -> str:
    """The whole page as text.

    Args:
        diagnosis: what `Diagnosis.to_dict` gives.
        decode: a token's text by its id, for the table of the logit lens; None shows ids.
        words: the tokens of the first sequence.
    """
    return Template(_asset("diagnosis.html")).substitute(
        title=escape(f"Diagnosis of {diagnosis['model']}"),
        version=escape(str(diagnosis.get("addnorm", ""))),
        colours=palette.css_variables(),
        style=_asset("report.css"),
        own_style=_asset("claims.css") + _asset("diagnosis.css"),
        script=_asset("theme.js"),
        outlines=charts.outlines(),
        verdict=_verdict(diagnosis["findings"]),
        facts=escape(_facts(diagnosis)),
        findings="".join(map(_finding, diagnosis["findings"])),
        trunks="".join(
            _trunk(number, each, diagnosis) + _lens(_named(each, "lens table"), decode, words)
            for number, each in enumerate(diagnosis["trunks"])
        ),
    )


def _asset(name: str) -> str:
    return (files("addnorm.reports") / name).read_text(encoding="utf-8")


def _facts(diagnosis: dict[str, Any]) -> str:
    loss = numbers.finite(diagnosis["loss"])
    parts = [
        f"{diagnosis['parameters']:,} parameters",
        f"{sum(len(each['trunk']['sublayers']) for each in diagnosis['trunks'])} sublayers",
        f"loss {loss:.3f}" if loss is not None else "no loss was given",
    ]
    return " · ".join(parts)


def _verdict(findings: Sequence[dict[str, Any]]) -> str:
    if not findings:
        return '<span class="mark good"><span aria-hidden="true">✓ </span>Nothing wrong was found</span>'
    faults = f"{len(findings)} fault{'s' * (len(findings) > 1)}"
    return f'<span class="mark bad"><span aria-hidden="true">✗ </span>{faults} found</span>'


def _finding(finding: dict[str, Any]) -> str:
    site = "" if finding["site"] is None else f", sublayer {finding['site']}"
    return (
        f'<article class="finding"><h3><span class="mark bad"><span aria-hidden="true">✗ </span>'
        f"{escape(finding['cause'])}</span> at <code>{escape(finding['place'])}</code>{site}</h3>"
        f"<p>{escape(_sentence(finding['evidence']))}</p><p><strong>{escape(finding['remedy'])}</strong></p></article>"
    )


def _trunk(number: int, each: dict[str, Any], diagnosis: dict[str, Any]) -> str:
    trunk, series = each["trunk"], {one["name"]: one for one in each["series"]}
    name = trunk["name"] or diagnosis["model"]
    streams = f" of {trunk['streams']}" if trunk["streams"] > 1 else ""
    norm = f"final norm {trunk['final_norm']}" if trunk["final_norm"] else "no final norm"
    found = (
        f"{trunk['evidence']} Layout: {trunk['layout']}{streams}; {norm}; "
        f"head {trunk['head'] or 'none'}; certainty {trunk['certainty']:.2f}."
    )
    faults = faults_on(trunk, diagnosis)
    curves = "".join(_curve(series[name], log, faults) for name, log in CURVES.items() if _drawable(series.get(name)))
    drawn = trunk_drawing(trunk["sublayers"], faults, name)
    return (
        f'<section id="trunk-{number}" aria-labelledby="trunk-{number}-heading">'
        f'<h2 id="trunk-{number}-heading">Trunk <code>{escape(name)}</code></h2><p class="lead">{escape(found)}</p>'
        f'<div class="scroll" role="region" aria-label="Drawing of the trunk" tabindex="0">{drawn}</div>'
        f'<div class="panels">{curves}{_similarity(series.get("depth similarity"))}</div>'
        "</section>"
    )


def faults_on(trunk: dict[str, Any], diagnosis: dict[str, Any]) -> dict[int, str]:
    """Causes by sublayer; -1 is in front of the trunk, where one that should be on it stands in its way."""
    places = {one["name"]: one["index"] for one in trunk["sublayers"]}
    everywhere = {one["name"] for each in diagnosis["trunks"] for one in each["trunk"]["sublayers"]}
    first = trunk["sublayers"][0]
    found: dict[int, str] = {}
    for finding in diagnosis["findings"]:
        place = finding["place"]
        at = places.get(place)
        if at is None and place not in everywhere and first["block"] and place.startswith(f"{first['block']}."):
            at = -1
        if at is not None:
            found[at] = f"{found[at]}, {finding['cause']}" if at in found else finding["cause"]
    return found


def _drawable(series: dict[str, Any] | None) -> bool:
    if series is None:
        return False
    return sum(numbers.finite(_number(value)) is not None for value in series["values"]) > 1


def _number(value: Any) -> Any:
    return None if isinstance(value, list | tuple) else value


def _curve(series: dict[str, Any], log: bool, faults: Mapping[int, str]) -> str:
    values = [numbers.finite(_number(value)) for value in series["values"]]
    if sum(value is not None and (value > 0 or not log) for value in values) < 2:
        return ""
    along = series["along"]
    drawn = depth_curve(values, series["name"], log=log, faults=faults if along in ("state", "sublayer") else {})
    where = {"state": "by depth in sublayers", "source": "by writer, the embedding first"}.get(along, f"by {along}")
    label = f"{_sentence(series['label'] or series['name'])}, {where}"
    return f"<figure><figcaption>{escape(label)}</figcaption>{drawn}</figure>"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _similarity(series: dict[str, Any] | None) -> str:
    if series is None:
        return ""
    caption = "Cosine of the state at one depth with the state at another: 0 at the entrance, top left."
    return f"<figure><figcaption>{caption}</figcaption>{depth_map(series['values'])}</figure>"


def _named(each: dict[str, Any], name: str) -> dict[str, Any] | None:
    return next((series for series in each["series"] if series["name"] == name), None)


def _lens(series: dict[str, Any] | None, decode: Decode | None, words: Sequence[str]) -> str:
    """What the model would say at each depth, deepest last; the likeliest token of each place and its probability."""
    if series is None or not series["values"]:
        return ""
    shown = min(LENS_TOKENS, len(series["values"][0]))
    names = [_visible(words[i]) if i < len(words) else str(i) for i in range(shown)]
    head = "".join(f'<th scope="col"><code>{escape(name)}</code></th>' for name in names)
    rows = "".join(
        f'<tr><th scope="row">{depth}</th>{"".join(_guess(one, decode) for one in row[:shown])}</tr>'
        for depth, row in enumerate(series["values"])
    )
    return (
        '<section><h2>Logit lens</h2><p class="lead">The likeliest next token at each place of the first sequence, if '
        "the model ended at a depth, and its probability. Early depths are read in the last one’s basis, which "
        'understates what they know.</p><div class="scroll" role="region" aria-label="Logit lens" tabindex="0">'
        f'<table class="comparison lens"><thead><tr><th scope="col">Depth</th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _guess(candidates: Sequence[Any], decode: Decode | None) -> str:
    token, chance = candidates[0]
    text = _visible(decode(int(token))) if decode else str(token)
    return f'<td><code>{escape(text)}</code><span class="reason">{float(chance):.2f}</span></td>'


def _visible(text: str) -> str:
    """A token's text with blanks and line ends to be seen."""
    return repr(text)[1:-1].replace(" ", "␣")
