"""A scheme as a notebook shows it: what it is, its drawing, its equation, its source."""

from __future__ import annotations

from html import escape

from addnorm.reports import diagrams
from addnorm.reports.mathml import equation_or_text
from addnorm.residual import Scheme
from addnorm.schemes._describe import doc_parts


def scheme_card(scheme: Scheme) -> str:
    """HTML without style sheet or script; lines are drawn in the colour of the text around."""
    title, equation, labelled, _ = doc_parts(type(scheme))
    words = getattr(scheme, "diagram", "")
    parts = [
        f"<p><strong>{escape(title)}</strong></p>",
        diagrams.draw(words, type(scheme).__name__) if words else "",
        equation_or_text(equation) if equation else "",
        *(f"<p>{escape(text)}</p>" for text in labelled["Reference"]),
        f"<p><code>{escape(repr(scheme))}</code></p>",
    ]
    return f"<div>{''.join(parts)}</div>"
