"""The notation of equations in docstrings: its signs and its words. What is in neither list is an error."""

from __future__ import annotations

import re
from dataclasses import dataclass

from addnorm.errors import UserError, unknown


def _split(text: str) -> frozenset[str]:
    return frozenset(text.split())


GREEK = {
    "alpha": "α",
    "beta": "β",
    "gamma": "γ",
    "delta": "δ",
    "eps": "ε",
    "lambda": "λ",
    "mu": "μ",
    "phi": "φ",
    "sigma": "σ",
    "theta": "θ",
}

# Names of functions and quantities, set upright.
NAMES = _split(
    """Attention Bernoulli FFN RMS RMSNorm ReLU Sinkhorn act embedding erf exp gelu head heads hidden layer
    logits mask mat mean norm read relu sg sigmoid silu softmax tanh unit vec write"""
)

# What stands at the foot of a letter and is a word, not a row of indices.
SUBSCRIPTS = _split("base down first head inject max new out p post pre res rest rows up")

# Rows of one-letter quantities without a sign between them.
ROWS = _split("ij oy qk nd")

WORDS = _split(
    """Pre-LN RMS after and are as at attention before block brought by comes cut each entrance feed-forward first for
    from half in inner into is it its layer layers number of one others out own part parts per query sample scheme
    scheme's second so stream sublayer sublayers sum that the then to training what where with initialisation
    alone output"""
)

_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<code>`[^`]+`)
    |(?P<number>\d+(?:\.\d+)?(?:e-?\d+)?)
    |(?P<kron>(?<=\s)\(x\)(?=\s))
    |(?P<name>[A-Za-z]{2,}-[A-Za-z]{2,}|[A-Za-z]{2,}'s|[A-Za-z]+)
    |(?P<sign><-|<=|>=|//|\|\||\.\.\.|[-+*/=<>.,;:!'~|_^(){}\[\]])""",
    re.VERBOSE,
)


class EquationError(UserError):
    """An equation has a sign or a word that the notation has not."""


@dataclass(frozen=True, kw_only=True)
class Token:
    """One sign, number or word."""

    kind: str
    """code, number, kron, name, sign or end."""
    text: str
    before: bool
    """Whether there is room before it: `x < y` compares, `<x, y>` is an inner product."""
    after: bool
    """Whether there is room after it."""


def tokens(text: str) -> list[Token]:
    """The signs and words of one line, and an end.

    Raises:
        EquationError: a sign is not of the notation.

    >>> [token.text for token in tokens("x <- x + F(n(x))")]
    ['x', '<-', 'x', '+', 'F', '(', 'n', '(', 'x', ')', ')', '']
    """
    found, place, before = [], 0, True
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise EquationError(f"an equation has no sign '{text[place]}'; the notation is that of `addnorm schemes`.")
        kind, place = str(match.lastgroup), match.end()
        if kind != "space":
            after = place == len(text) or text[place].isspace()
            found.append(Token(kind=kind, text=match[0], before=before, after=after))
        before = kind == "space"
    return [*found, Token(kind="end", text="", before=True, after=True)]


def is_word(token: Token, follower: Token) -> bool:
    """Whether it is of a sentence, not of a formula: `sum of the` is, `sum_j` is not."""
    return token.kind == "name" and token.text in WORDS and follower.text not in ("_", "^", "(")


def unknown_name(came: str) -> EquationError:
    """The error for a name of which the notation does not know whether it is a function, a quantity or a word."""
    allowed = [*GREEK, *NAMES, *WORDS, *SUBSCRIPTS]
    return EquationError(str(unknown("name in an equation", came, allowed)))


class TokenReader:
    """A clause, read from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = tokens(text)
        self.place = 0

    @property
    def now(self) -> Token:
        """What comes next."""
        return self.tokens[self.place]

    @property
    def following(self) -> Token:
        """What comes after that."""
        return self.tokens[min(self.place + 1, len(self.tokens) - 1)]

    def take(self) -> Token:
        """What comes next, which then is read."""
        token = self.now
        self.place += 1
        return token

    def expect(self, text: str) -> None:
        """Read this sign.

        Raises:
            EquationError: another comes.
        """
        if self.now.text != text:
            came = f"'{self.now.text}'" if self.now.text else "the end"
            raise EquationError(f"an equation has {came} where '{text}' is due: {self.text}")
        self.take()

    def at_word(self) -> bool:
        """Whether a word of a sentence comes; `a` is one between two words, `in` where no ℝ follows."""
        if self.now.text == "in" and self.following.text == "R":
            return False
        if self.now.text == "a" and self.place:
            last, then = self.tokens[self.place - 1], self.tokens[min(self.place + 2, len(self.tokens) - 1)]
            return is_word(last, self.now) and is_word(self.following, then)
        return is_word(self.now, self.following)

    def word_follows(self) -> bool:
        """Whether a word comes after what comes next."""
        self.place += 1
        found = self.at_word()
        self.place -= 1
        return found
