"""What a scheme's docstring says, as data: for the catalogue, the report and a law.

The form, one part after the other: `NAME: one sentence.`, the indented equation, `Reference: ...`, `Cost: ...`, any
number of `Deviation: ...`, `Args:`. A part runs to the next empty line or the next part.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from dataclasses import dataclass, fields
from functools import cache

from addnorm import schemes
from addnorm.residual import Scheme

_LABELS = ("Reference", "Cost", "Deviation", "Args")
_LABEL = re.compile(rf"(?:{'|'.join(_LABELS)}):")


@dataclass(frozen=True, kw_only=True)
class SchemeField:
    """One hyper-parameter of a scheme."""

    name: str
    type: str
    default: str
    text: str
    """What it is, in words; empty where the scheme does not say."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """What the catalogue knows of one scheme."""

    name: str
    """As on the command line: "deep-norm"."""
    label: str
    """As in papers: "DeepNorm"."""
    title: str
    """The label and one sentence."""
    equation: str
    reference: str
    cost: str
    notes: tuple[str, ...]
    """Deviations from the paper, and paragraphs that are none of the other parts."""
    starts_as: str | None
    """The scheme that computes the same function before training."""
    diagram: str
    """The path of one sublayer, in the words that the reports draw."""
    fields: tuple[SchemeField, ...]


def describe(name: str) -> Description:
    """The description of a scheme, with its default hyper-parameters.

    Raises:
        UserError: no scheme has that name.

    >>> describe("pre-norm").equation
    'x <- x + F(n(x));    hidden = n(x)'
    """
    return _described(schemes.get(name), name)


@cache
def _described(scheme: type[Scheme], name: str) -> Description:
    title, equation, parts, other = doc_parts(scheme)
    start = scheme().starts_as()
    return Description(
        name=name,
        label=title.partition(":")[0],
        title=title,
        equation=equation,
        reference=" ".join(parts["Reference"]),
        cost=" ".join(parts["Cost"]),
        notes=(*parts["Deviation"], *other),
        starts_as=None if start is None else schemes.format(start),
        diagram=getattr(scheme, "diagram", ""),
        fields=_fields(scheme),
    )


def doc_parts(scheme: type[Scheme]) -> tuple[str, str, dict[str, list[str]], list[str]]:
    """Title, equation, the labelled parts, and the paragraphs that are left of a scheme's docstring."""
    return _parts(_doc_of(scheme))


def _doc_of(scheme: type[Scheme]) -> str:
    """Its docstring; its name where a dataclass has written its signature there."""
    text = inspect.cleandoc(scheme.__doc__ or "")
    return scheme.__name__ if not text or text.startswith(f"{scheme.__name__}(") else text


def _parts(text: str) -> tuple[str, str, dict[str, list[str]], list[str]]:
    """Title, equation, the labelled parts, and the paragraphs that are left."""
    labelled: dict[str, list[str]] = {label: [] for label in _LABELS}
    title, *paragraphs = re.split(r"\n\s*\n", text)
    equation, other = "", []
    for paragraph in paragraphs:
        if paragraph.startswith(" "):
            equation = equation or textwrap.dedent(paragraph)
            continue
        for piece in re.split(rf"^(?={_LABEL.pattern})", paragraph, flags=re.MULTILINE):
            label = _LABEL.match(piece)
            if label:
                labelled[label[0][:-1]].append(_joined(piece[label.end() :]))
            elif piece:
                other.append(_joined(piece))
    return _joined(title), equation, labelled, other


def _joined(text: str) -> str:
    return " ".join(text.split())


def _fields(scheme: type[Scheme]) -> tuple[SchemeField, ...]:
    """The hyper-parameters, the scheme's own first."""
    texts: dict[str, str] = {}
    for base in reversed(scheme.__mro__):
        if issubclass(base, Scheme):
            texts |= _argument_texts(base.__doc__ or "") | _attribute_texts(base)
    settable = [field for field in fields(scheme) if field.init]
    own = [field for field in settable if field.name in scheme.__dict__.get("__annotations__", {})]
    inherited = [field for field in settable if field not in own]
    return tuple(
        SchemeField(
            name=field.name,
            type=str(field.type),
            default=schemes.format(field.default) if isinstance(field.default, Scheme) else str(field.default),
            text=texts.get(field.name, ""),
        )
        for field in own + inherited
    )


def _argument_texts(doc: str) -> dict[str, str]:
    """The entries of an `Args:` section.

    >>> _argument_texts("One sentence.\\n\\nArgs:\\n    norm: the norm,\\n        by name.\\n    other: a number.")
    {'norm': 'the norm, by name.', 'other': 'a number.'}
    """
    section = inspect.cleandoc(doc).partition("Args:\n")[2]
    block = re.match(r"(?:(?: +.*)?\n?)*", section)
    entries = re.findall(r"^(\w+):(.*(?:\n +.*)*)", textwrap.dedent(block[0] if block else ""), flags=re.MULTILINE)
    return {name: _joined(text) for name, text in entries}


def _attribute_texts(scheme: type[Scheme]) -> dict[str, str]:
    """The strings that stand below the fields of a class."""
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(scheme))).body[0]
    except OSError:  # defined in an interactive session
        return {}
    statements = body.body if isinstance(body, ast.ClassDef) else []
    return {
        field.target.id: _joined(text.value.value)
        for field, text in zip(statements, statements[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
