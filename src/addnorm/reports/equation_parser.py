"""From the text of a clause to MathML, by recursive descent."""

from __future__ import annotations

from html import escape

from addnorm.reports.equation_tokens import SUBSCRIPTS, EquationError, TokenReader
from addnorm.reports.mathml_parts import (
    APPLY,
    INFIX,
    REALS,
    Factor,
    fenced,
    letter,
    math,
    number,
    row,
    scripted,
    side_by_side,
    sign,
)

_CLOSING = {"(": ")", "[": "]", "{": "}", "<": ">", "|": "|", "||": "||"}
_BREAKS = ("=", "<-", "+", "-")
# A formula with more tokens than this may break before the signs of _BREAKS that stand in no bracket.
_LONG = 16


class EquationParser(TokenReader):
    """One clause, by recursive descent."""

    def clause(self) -> str:
        """Formulas and the words between them, as HTML."""
        pieces: list[str] = []
        while self.now.kind != "end":
            if self.now.kind == "code":
                pieces.append(f"<code>{escape(self.take().text.strip('`'))}</code>")
            elif self.at_word():
                pieces.append(escape(self.take().text))
            elif self.now.text in (",", ";", ":") and pieces:
                pieces[-1] += self.take().text
            else:
                pieces.append(self.formula())
        return " ".join(pieces)

    def formula(self) -> str:
        """Up to the next word or the end, in pieces between which a line may break."""
        start, pieces = self.place, [[]]
        while not self.at_end_of_formula():
            if self.now.text in _BREAKS and pieces[-1]:
                pieces.append([sign(self.take().text, "infix")])
            else:
                pieces[-1] += self.step(first=not pieces[-1])
        if self.place == start and self.now.kind != "end":
            self.atom()  # a sign that begins no formula
        if self.place - start <= _LONG:
            pieces = [[part for piece in pieces for part in piece]]
        if self.now.text in (",", ";"):  # in the formula, so that no line begins with it
            pieces[-1].append(f"<mo>{self.take().text}</mo>")
        return "<wbr/>".join(math(row(piece)) for piece in pieces)

    def at_end_of_formula(self) -> bool:
        if self.now.text in (",", ";", ":"):
            return self.following.kind == "end" or self.now.text == ":" or self.word_follows()
        return self.now.kind in ("end", "code") or self.at_word()

    def inside(self, closing: str, sizes: bool = False) -> str:
        """All up to a closing bracket, which is taken too; `n x d` is a product where sizes stand."""
        parts: list[str] = []
        while self.now.text != closing:
            if self.now.kind == "end":
                self.expect(closing)
            if sizes and self.now.text == "x":
                self.take()
                parts.append(sign("×"))
            else:
                parts += self.term(sizes) if sizes else self.step(first=not parts)
        self.take()
        return row(parts) if parts else "<mrow></mrow>"

    def step(self, first: bool) -> list[str]:
        """A sign between terms, or a term."""
        token = self.now
        if token.text in (",", ";"):
            self.take()
            return [sign(token.text)]
        if token.text == "...":
            self.take()
            return ["<mo>…</mo>"]
        if token.text == "-" and first:
            self.take()
            return [sign("-")]
        if token.kind == "kron" or token.text in INFIX and not self.opens_product():
            self.take()
            return [sign("kron" if token.kind == "kron" else token.text)]
        return self.term()

    def opens_product(self) -> bool:
        opened = self.place and self.tokens[self.place - 1].text in ("(", "[", "{")
        return self.now.text == "<" and not self.now.after and bool(self.now.before or opened)

    def term(self, sizes: bool = False) -> list[str]:
        """Factors side by side; a slash after them makes them a numerator."""
        factors = [self.factor()]
        while self.starts_factor() and not (sizes and self.now.text == "x"):
            factors.append(self.factor())
        top = factors[0].inner if len(factors) == 1 and factors[0].inner else row(side_by_side(factors))
        if self.now.text == "/":
            tight = not self.take().before
            below = self.factor()
            if tight:  # d/m in a line or an exponent
                return [*side_by_side(factors), sign("/"), below.markup]
            return [f"<mfrac>{top}{below.inner or below.markup}</mfrac>"]
        if self.now.text == "//":
            self.take()
            below = self.factor()
            quotient = f"<mfrac>{top}{below.inner or below.markup}</mfrac>"
            return [fenced("⌊", quotient, "⌋")]
        return side_by_side(factors)

    def starts_factor(self) -> bool:
        if self.at_word() or self.now.text in ("in", "mod"):
            return False
        if self.now.text in ("|", "||"):
            return self.now.before and not self.now.after
        return self.now.kind in ("number", "name") or self.now.text in ("(", "[") or self.opens_product()

    def factor(self) -> Factor:
        """A letter, a number or a bracket with all that hangs on it, and the arguments of a function."""
        part = self.scripts(self.atom())
        while part.function and self.now.text == "(" and not self.now.before:
            argument = self.bracket("(")
            applied = f"<mrow>{part.markup}{APPLY}{argument.markup}</mrow>"
            part = self.scripts(Factor(markup=applied, upright=part.upright))
        return part

    def atom(self) -> Factor:
        token = self.take()
        if token.kind == "number":
            return Factor(markup=number(token.text))
        if token.text in ("(", "[", "|", "||", "<"):
            self.place -= 1
            return self.bracket(token.text)
        if token.kind != "name":
            came = f"'{token.text}'" if token.text else "the end"
            raise EquationError(f"an equation has {came} where a letter, a number or a bracket is due: {self.text}")
        if token.text in ("sqrt", "floor") and self.now.text == "(":
            self.take()
            inner = self.inside(")")
            return Factor(markup=f"<msqrt>{inner}</msqrt>" if token.text == "sqrt" else fenced("⌊", inner, "⌋"))
        if token.text == "sum":
            return Factor(markup="<mo>∑</mo>", upright=True)
        if token.text == "R" and self.place > 1 and self.tokens[self.place - 2].text == "in":
            return Factor(markup=REALS)
        return letter(token.text)

    def bracket(self, opening: str) -> Factor:
        self.expect(opening)
        if opening == "[" and self.now.text == "[":
            return Factor(markup=self.matrix())
        inner = self.inside(_CLOSING[opening])
        return Factor(markup=fenced(opening, inner, _CLOSING[opening]), inner=inner if opening == "(" else "")

    def matrix(self) -> str:
        rows = []
        while self.now.text == "[":
            self.take()
            cells = self.cells()
            rows.append("<mtr>" + "".join(f"<mtd>{cell}</mtd>" for cell in cells) + "</mtr>")
            if self.now.text == ",":
                self.take()
        self.expect("]")
        return fenced("[", f"<mtable>{''.join(rows)}</mtable>", "]")

    def cells(self) -> list[str]:
        cells: list[list[str]] = [[]]
        while self.now.text != "]":
            if self.now.kind == "end":
                self.expect("]")
            if self.now.text == ",":
                self.take()
                cells.append([])
            else:
                cells[-1] += self.step(first=not cells[-1])
        self.take()
        return [row(cell) for cell in cells]

    def scripts(self, part: Factor) -> Factor:
        """Tilde, prime, factorial, foot and exponent."""
        base, foot, above = part.markup, "", ""
        while True:
            sign = self.now.text
            if sign == "~" and not self.now.before:
                self.take()
                base = f'<mover accent="true">{base}<mo stretchy="false">~</mo></mover>'
            elif sign == "!":
                self.take()
                base = f"<mrow>{base}<mo>!</mo></mrow>"
            elif sign == "'":
                self.take()
                above = '<mo lspace="0" rspace="0">′</mo>'
            elif sign == "_" and not foot:
                self.take()
                foot = self.script(foot=True)
            elif sign == "^" and not above:
                self.take()
                above = self.script(foot=False, space=base == REALS)
            else:
                break
        return Factor(
            markup=scripted(base, foot, above),
            inner="" if foot or above else part.inner,
            function=part.function,
            upright=part.upright,
        )

    def script(self, foot: bool, space: bool = False) -> str:
        token = self.take()
        if token.text in ("{", "("):
            return self.inside(_CLOSING[token.text], sizes=space)
        if token.kind == "number":
            return number(token.text)
        if token.kind != "name":
            raise EquationError(f"an equation has '{token.text}' where an index is due: {self.text}")
        if token.text == "T" and not foot:
            return '<mi mathvariant="normal">T</mi>'
        if foot and token.text in SUBSCRIPTS and len(token.text) > 1:
            return f"<mtext>{token.text}</mtext>"
        return letter(token.text).markup
