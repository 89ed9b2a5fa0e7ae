"""A scheme as it writes itself: in a line, and in a notebook."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import pytest

from addnorm import Connection, Scheme, Site, Transformer, schemes
from addnorm.schemes._describe import describe
from addnorm.schemes.by_layer import ByLayer
from addnorm.schemes.deep_norm import DeepNorm
from addnorm.schemes.mhc import MHC
from addnorm.schemes.pre_norm import PreNorm

SHAPE: dict[str, Any] = {"vocab_size": 256, "d_model": 32, "num_heads": 4, "num_layers": 2}


def test_a_scheme_writes_only_what_was_chosen() -> None:
    assert repr(DeepNorm()) == "DeepNorm()"
    assert repr(MHC(streams=2, norm="rms")) == "MHC(norm='rms', streams=2)"
    assert repr(ByLayer(rest=PreNorm(norm="rms"), share=0.5)) == "ByLayer(share=0.5, rest=PreNorm(norm='rms'))"


@pytest.mark.parametrize("name", schemes.names())
def test_what_a_scheme_writes_makes_it_again(name: str) -> None:
    scheme = schemes.get(name)(norm="none") if name == "pre-norm" else schemes.get(name)()
    kinds = {kind.__name__: kind for kind in map(schemes.get, schemes.names())}
    assert eval(repr(scheme), kinds) == scheme


def test_a_model_is_one_line() -> None:
    model = Transformer(PreNorm(norm="rms"), bias=False, **SHAPE)
    count = sum(p.numel() for p in model.parameters())
    assert repr(model) == (
        "Transformer(PreNorm(norm='rms'), d_model=32, num_heads=4, bias=False, num_layers=2, vocab_size=256): "
        f"{count:,} parameters"
    )


@pytest.mark.parametrize("name", schemes.names())
def test_a_notebook_shows_the_drawing_and_the_equation(name: str) -> None:
    about = ElementTree.fromstring(schemes.get(name)()._repr_html_())  # well-formed
    described = describe(name)
    assert about.find("pre") is None
    assert len(about.findall("div//math")) >= len(described.equation.splitlines()) > 0
    assert about.findtext("p/strong") == described.title
    assert described.reference == " ".join(p.text or "" for p in about.findall("p")[1:-1])
    assert about.find("{http://www.w3.org/2000/svg}svg") is not None


@dataclass(frozen=True, kw_only=True)
class Bare(Scheme):
    strength: float

    def connection(self, d_model: int, site: Site) -> Connection:
        raise NotImplementedError


def test_a_scheme_of_ones_own_without_words_is_shown_too() -> None:
    about = ElementTree.fromstring(Bare(strength=2.0)._repr_html_())
    assert about.findtext("p/code") == repr(Bare(strength=2.0)) == "Bare(strength=2.0)"


class OwnNotation(Bare):
    """Own: in another notation.

        x @ y

    Reference: none.
    """


def test_an_equation_in_ones_own_notation_is_shown_as_it_was_written() -> None:
    about = ElementTree.fromstring(OwnNotation(strength=2.0)._repr_html_())
    assert about.findtext("pre") == "x @ y"
