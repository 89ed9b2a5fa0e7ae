"""Make the tutorial's pages and notebooks, in English and Chinese, from one source.

python scripts/build_tutorial.py          pages and notebooks from the stored run
python scripts/build_tutorial.py --run    run all cells first: 430 seconds of processor time, on two cores

scripts/tutorial/cells.py has the code once. The prose of a language has a line `@cell NAME | caption` where a cell
stands, and `{{path:format}}` where it quotes the run; so a page, its notebook and the numbers cannot differ.
What a run printed and measured is docs/tutorial/results.json, its figures are beside it.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from scripts.build_catalogue import STYLE

from addnorm.reports import diagrams

ROOT = Path(__file__).parents[1]
SOURCE, OUT = ROOT / "scripts" / "tutorial", ROOT / "docs" / "tutorial"
LANGUAGES = {"en": "tutorial", "zh-CN": "tutorial.zh-CN"}
"""Language to file name in docs."""
DRAWINGS = {
    "post-ln": "fork sublayer add box:LN",
    "pre-ln": "fork box:LN sublayer add",
    "single-skip": "fork box:LN box:Attn box:FFN add box:LN",
    "add-then-relu": "fork sublayer add box:ReLU",
}
"""File name to diagram, in the words of addnorm.reports.diagrams."""
WORDS = {
    "zh-CN": {
        "better": "更好",
        "worse": "更差",
        "equal": "相当",
        "not decided": "未定",
        "does not train": "训练不动",
        "too short to tell": "步数太少，无法判断",
    }
}
"""Verdicts in other languages than English."""


def cells() -> dict[str, str]:
    """The code of every cell, in their order."""
    _, *parts = re.split(r"^# %% ", (SOURCE / "cells.py").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {name: code.strip() for name, _, code in (part.partition("\n") for part in parts)}


def run(parameters: str = "", figures: Path | None = None) -> dict[str, Any]:
    """Run all cells in one namespace, one after the other.

    Args:
        parameters: code that follows the first cell, to make the rest smaller.
        figures: where figures are written; None = nowhere.

    Returns:
        What each cell printed, the seconds that it took, and the `results` that the prose quotes.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names: dict[str, Any] = {"__name__": "__main__"}
    printed, seconds = {}, {}
    with matplotlib.rc_context():
        for name, code in cells().items():
            code = f"{code}\n{parameters}" if name == "parameters" else code
            told, start = io.StringIO(), time.perf_counter()
            with contextlib.redirect_stdout(told):
                exec(compile(code, f"<{name}>", "exec", dont_inherit=True), names)
            printed[name], seconds[name] = told.getvalue(), round(time.perf_counter() - start, 1)
            for number in pyplot.get_fignums():
                if figures is not None:
                    _save(pyplot.figure(number), figures / f"{name}.png")
                pyplot.close(number)
    return {"printed": printed, "seconds": seconds, "results": names["results"]}


def _save(figure: Any, path: Path) -> None:
    """A PNG of few colours: a third of the bytes."""
    from PIL import Image

    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=150, facecolor="white")
    Image.open(drawn).convert("RGB").quantize(64).save(path, optimize=True)


def parts(language: str, stored: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Pieces of prose as ("", text) and cells as (name, caption), in their order."""
    prose = (SOURCE / f"{language}.md").read_text(encoding="utf-8")
    words = WORDS.get(language, {})
    prose = re.sub(r"\{\{(.+?)\}\}", lambda match: _in(words, quoted(stored["results"], match[1])), prose)
    for i, piece in enumerate(re.split(r"^@cell (.+)$\n?", prose, flags=re.MULTILINE)):
        if i % 2:
            name, _, caption = piece.partition(" | ")
            yield name.strip(), caption.strip()
        elif piece.strip():
            yield "", piece.strip()


def _in(words: dict[str, str], text: str) -> str:
    return words.get(text, text)


def quoted(results: dict[str, Any], asked: str) -> str:
    """A number of the run as text: `chain/He's weights/48:.2f`.

    Raises:
        KeyError: the run has no such number.
    """
    path, _, form = asked.partition(":")
    found: Any = results
    for name in path.strip().split("/"):
        found = found[name]
    return format(found, form) if form else str(found)


def page(language: str, stored: dict[str, Any]) -> str:
    """The Markdown page."""
    code, written = cells(), []
    for name, caption in parts(language, stored):
        if not name:
            written.append(caption)
            continue
        written.append(f"```python\n{code[name]}\n```")
        if stored["printed"][name].strip():
            written.append(f"```text\n{stored['printed'][name].rstrip()}\n```")
        if (OUT / f"{name}.png").exists():
            written.append(f"![{caption}](tutorial/{name}.png)")
    return "\n\n".join(written) + "\n"


def notebook(language: str, stored: dict[str, Any]) -> str:
    """The notebook, with what the run printed and drew."""
    code, made = cells(), []
    for place, (name, caption) in enumerate(parts(language, stored)):
        if not name:
            made.append({"cell_type": "markdown", "id": f"text-{place}", "metadata": {}, "source": _lines(caption)})
            continue
        made.append(
            {
                "cell_type": "code",
                "execution_count": None,
                "id": name,
                "metadata": {"tags": ["parameters"]} if name == "parameters" else {},
                "outputs": list(_outputs(name, caption, stored)),
                "source": _lines(code[name]),
            }
        )
    about = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return (
        json.dumps({"cells": made, "metadata": about, "nbformat": 4, "nbformat_minor": 5}, ensure_ascii=False, indent=1)
        + "\n"
    )


def _outputs(name: str, caption: str, stored: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if stored["printed"][name].strip():
        yield {"name": "stdout", "output_type": "stream", "text": _lines(stored["printed"][name])}
    picture = OUT / f"{name}.png"
    if picture.exists():
        data = {"image/png": base64.b64encode(picture.read_bytes()).decode(), "text/plain": [caption]}
        yield {"data": data, "metadata": {}, "output_type": "display_data"}


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def made(stored: dict[str, Any]) -> dict[Path, str]:
    """Every file that is made, with its text."""
    files = {}
    for language, name in LANGUAGES.items():
        files[ROOT / "docs" / f"{name}.md"] = page(language, stored)
        files[ROOT / "docs" / f"{name}.ipynb"] = notebook(language, stored)
    return files | {OUT / f"{name}.svg": _drawn(words, name) for name, words in DRAWINGS.items()}


def _drawn(words: str, name: str) -> str:
    """A diagram that brings its own ground."""
    opening, closed, rest = diagrams.draw(words, name).partition(">")
    return f"{opening}{closed}{STYLE}{rest}\n"


def stored_run() -> dict[str, Any]:
    """The run that the pages show."""
    return json.loads((OUT / "results.json").read_text(encoding="utf-8"))


def main() -> int:
    """Run if asked, then write pages and notebooks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="store_true", help="run all cells and store what they print, measure and draw")
    if parser.parse_args().run:
        OUT.mkdir(exist_ok=True)
        found = run(figures=OUT)
        (OUT / "results.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for path, text in made(stored_run()).items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
