"""Equations of docstrings as MathML Core, which browsers draw by themselves: no library, no script, no network.

The notation: `x <- y` assigns, `a_b^c` has a foot and an exponent (`{}` or `()` around longer ones), `x~` and `x'`
mark, `a / b` is a fraction, `a // b` its floor, `*` a product of numbers or entries, `.` one of vectors, `(x)` that of
Kronecker, `<x, y>` an inner product, `|x|` and `||x||` norms, `[[a, b], [c, d]]` a matrix. Two spaces or more part
clauses. Words between formulas are text. MathML Core: https://www.w3.org/TR/mathml-core/.
"""

from __future__ import annotations

import re
from html import escape

from addnorm.reports.equation_parser import EquationParser
from addnorm.reports.equation_tokens import EquationError

# Fonts with tall brackets, of macOS, Windows and Linux; a browser's own choice may have none.
_FONTS = "'STIX Two Math','Cambria Math','DejaVu Math TeX Gyre',math"
# Styles stand in the elements, since a notebook has no style sheet of ours.
_BOX = f'role="group" aria-label="Equation" tabindex="0" style="--math:{_FONTS};overflow-x:auto;line-height:1.7"'
_CLAUSE = "display:inline-block;margin-right:1.2em"


def equation(text: str) -> str:
    """An equation as HTML with MathML; wraps between clauses, and scrolls in its own box where one is too wide.

    Args:
        text: lines in the notation of the schemes' docstrings.

    Raises:
        EquationError: a sign or a name is not of the notation, or a bracket stays open.

    >>> "<msub><mi>x</mi><mn>0</mn></msub>" in equation("x_0")
    True
    """
    lines = "".join(f'<div style="margin:0.3em 0">{_line(line)}</div>' for line in text.splitlines() if line.strip())
    return f'<div class="equations" {_BOX}>{lines}</div>'


def equation_or_text(text: str) -> str:
    """The same; an equation of one's own in another notation as it was written."""
    try:
        return equation(text)
    except EquationError:
        return f'<pre style="overflow-x:auto">{escape(text)}</pre>'


def _line(text: str) -> str:
    clauses = re.split(r"\s{2,}", text.strip())
    return " ".join(f'<span style="{_CLAUSE}">{EquationParser(clause).clause()}</span>' for clause in clauses)
