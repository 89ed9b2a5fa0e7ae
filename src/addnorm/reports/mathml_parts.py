"""The pieces of MathML of which formulas are built: letters, numbers, signs, feet and exponents."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from addnorm.reports.equation_tokens import GREEK, NAMES, ROWS, unknown_name

# Between terms.
INFIX = {
    "<-": "←",
    "=": "=",
    "<": "<",
    ">": ">",
    "<=": "≤",
    ">=": "≥",
    "+": "+",
    "-": "−",
    "*": "⋅",
    ".": "⋅",
    "~": "∼",
    "kron": "⊗",
    "in": "∈",
    "mod": "mod",
}
_FENCES = {"<": "⟨", ">": "⟩", "||": "‖"}
APPLY, TIMES = "<mo>\u2061</mo>", "<mo>\u2062</mo>"
THIN = '<mspace width="0.17em"></mspace>'
REALS = "<mi>ℝ</mi>"


@dataclass(frozen=True, kw_only=True)
class Factor:
    """A piece of a formula."""

    markup: str
    inner: str = ""
    """Of a bracket, what stands in it."""
    function: bool = False
    """Whether a bracket that follows at once holds its argument."""
    upright: bool = False


def math(inner: str) -> str:
    """A whole formula."""
    return f'<math displaystyle="true" style="font-family:var(--math)">{inner}</math>'


def row(parts: list[str]) -> str:
    """Several pieces as one."""
    return parts[0] if len(parts) == 1 else f"<mrow>{''.join(parts)}</mrow>"


def sign(text: str, form: str = "") -> str:
    """A sign; its form is written out where its place does not say it."""
    attribute = f' form="{form}"' if form else ""
    return f"<mo{attribute}>{escape(INFIX.get(text, text))}</mo>"


def fenced(opening: str, inner: str, closing: str) -> str:
    """Brackets around, as tall as what is in them."""
    left, right = (escape(_FENCES.get(text, text)) for text in (opening, closing))
    return f"<mrow><mo>{left}</mo>{inner}<mo>{right}</mo></mrow>"


def scripted(base: str, foot: str, above: str) -> str:
    """A base with a foot, an exponent or both; indices of a sum stand below it."""
    if foot and base == "<mo>∑</mo>":
        return f"<munder>{base}{foot}</munder>"
    if foot and above:
        return f"<msubsup>{base}{foot}{above}</msubsup>"
    if foot or above:
        return f"<msub>{base}{foot}</msub>" if foot else f"<msup>{base}{above}</msup>"
    return base


def side_by_side(factors: list[Factor]) -> list[str]:
    """Factors without a sign between them; an upright name gets a little room."""
    parts: list[str] = []
    for last, factor in zip([None, *factors], factors, strict=False):
        if last is not None:
            parts += [TIMES, THIN] if factor.upright or last.upright else [TIMES]
        parts.append(factor.markup)
    return parts


def number(text: str) -> str:
    """A number; `1e-6` as a power of ten."""
    mantissa, letter, exponent = text.partition("e")
    if not letter:
        return f"<mn>{text}</mn>"
    power = f"<msup><mn>10</mn><mrow><mo>−</mo><mn>{exponent.lstrip('-')}</mn></mrow></msup>"
    if not exponent.startswith("-"):
        power = f"<msup><mn>10</mn><mn>{exponent}</mn></msup>"
    return power if mantissa == "1" else f"<mrow><mn>{mantissa}</mn><mo>×</mo>{power}</mrow>"


def letter(text: str) -> Factor:
    """A variable, upright if it is a name of several letters."""
    if len(text) == 1:
        return Factor(markup=f"<mi>{text}</mi>", function=True)
    if text in GREEK:
        return Factor(markup=f"<mi>{GREEK[text]}</mi>")
    if text in NAMES:
        return Factor(markup=f"<mi>{text}</mi>", function=True, upright=True)
    if text in ROWS:
        return Factor(markup="<mrow>" + TIMES.join(f"<mi>{letter}</mi>" for letter in text) + "</mrow>")
    raise unknown_name(text)
