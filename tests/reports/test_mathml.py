"""Equations of docstrings as MathML."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from addnorm import schemes
from addnorm.reports.equation_tokens import GREEK, EquationError
from addnorm.reports.mathml import equation
from addnorm.schemes._describe import describe

# Elements of MathML Core, https://www.w3.org/TR/mathml-core/
CORE = {"math", "mrow", "mi", "mn", "mo", "mtext", "mspace", "msub", "msup", "msubsup", "munder", "mover"}
CORE |= {"mfrac", "msqrt", "mtable", "mtr", "mtd"}
ARGUMENTS = {"msub": 2, "msup": 2, "munder": 2, "mover": 2, "mfrac": 2, "msubsup": 3}


def drawn(text: str) -> str:
    """The formulas alone, without attributes and invisible signs."""
    inner = "".join(re.findall(r"<math[^>]*>(.*?)</math>", equation(text)))
    return re.sub(r"(?<=<m)(\w+) [^>]*", r"\1", inner).replace("<mo>\u2061</mo>", "").replace("<mo>\u2062</mo>", "")


def sequence(text: str) -> str:
    """Letters and signs in their order, which markup must neither lose nor turn round."""
    return "".join(ElementTree.fromstring(equation(text)).itertext())


@pytest.mark.parametrize("name", schemes.names())
def test_every_scheme_has_an_equation_in_mathml_core(name: str) -> None:
    text = describe(name).equation
    tree = ElementTree.fromstring(equation(text))
    for element in tree.iter():
        if element.tag.startswith("m"):
            assert element.tag in CORE
            assert len(element) == ARGUMENTS.get(element.tag, len(element)), ElementTree.tostring(element)
    for formula in tree.iter("math"):
        shown = "".join(formula.itertext())
        assert not re.search(r"[_^*{}]|<-|//", shown), shown


@pytest.mark.parametrize("name", schemes.names())
def test_no_letter_of_an_equation_is_lost(name: str) -> None:
    text = describe(name).equation
    spoken = re.sub(r"\(x\)(?=\s)", "", re.sub(r"R\^\{[^}]*\}", "", text))
    letters = re.findall(r"[A-Za-z]+", re.sub(r"1e-6|\bsum_|sqrt|floor|\bin R", "", spoken))
    shown = re.sub(r"[^\w]", "", sequence(text))
    for letter in letters:
        assert GREEK.get(letter, letter) in shown or letter in ("in", "R", "x"), letter


def test_a_foot_and_an_exponent_stand_above_each_other() -> None:
    assert drawn("H_post^T") == "<msubsup><mi>H</mi><mtext>post</mtext><mi>T</mi></msubsup>"
    assert drawn("w^c_j") == "<msubsup><mi>w</mi><mi>j</mi><mi>c</mi></msubsup>"
    assert 'mathvariant="normal">T<' in equation("H_post^T")


def test_a_slash_makes_a_fraction_of_what_is_beside_it() -> None:
    product = "<mrow><msub><mi>Q</mi><mi>l</mi></msub><mi>K</mi></mrow>"
    root = "<msqrt><mi>d</mi></msqrt>"
    assert drawn("Q_l K / sqrt(d)") == f"<mfrac>{product}{root}</mfrac>"
    assert drawn("(x + y) / n") == "<mfrac><mrow><mi>x</mi><mo>+</mo><mi>y</mi></mrow><mi>n</mi></mfrac>"
    assert drawn("L // 2") == "<mrow><mo>⌊</mo><mfrac><mi>L</mi><mn>2</mn></mfrac><mo>⌋</mo></mrow>"
    assert "<mfrac>" not in drawn("X in R^{m x d/m}")


def test_names_are_upright_and_letters_are_not() -> None:
    assert drawn("tanh(x)") == "<mrow><mi>tanh</mi><mrow><mo>(</mo><mi>x</mi><mo>)</mo></mrow></mrow>"
    assert drawn("a_ij") == "<msub><mi>a</mi><mrow><mi>i</mi><mi>j</mi></mrow></msub>"
    assert sequence("lambda^2 + beta_k") == "λ2+βk"


def test_signs_that_look_alike_are_told_apart_by_room() -> None:
    assert sequence("l < floor(a * L)") == "l<⌊a⋅L⌋"
    assert sequence("<F, x>") == "⟨F,x⟩"
    assert sequence("||x|| + |y|") == "‖x‖+|y|"
    assert sequence("b ~ y~") == "b∼y~"
    assert sequence("X in R^{n x d}") == "X∈ℝn×d"
    assert sequence("A (x) F(x)").replace("\u2061", "") == "A⊗F(x)"
    assert sequence("x <- x + n(x)  in layers l") == "x←x+n\u2061(x) in layers l"


def test_indices_of_a_sum_stand_below_it() -> None:
    below = "<mrow><mi>j</mi><mo>≤</mo><mi>i</mi></mrow>"
    assert drawn("sum_{j<=i} a_j").startswith(f"<mrow><munder><mo>∑</mo>{below}</munder>")
    assert sequence("sum of the y_i of block k") == "sum of the yi of block k"


def test_a_power_of_ten_and_a_matrix() -> None:
    assert drawn("1e-6") == "<msup><mn>10</mn><mrow><mo>−</mo><mn>6</mn></mrow></msup>"
    row = "<mtr><mtd><mi>p</mi></mtd><mtd><mn>1</mn></mtd></mtr>"
    assert drawn("[[p, 1], [p, 1]]") == f"<mrow><mo>[</mo><mtable>{row}{row}</mtable><mo>]</mo></mrow>"


def test_a_long_formula_may_break_before_its_signs_and_no_line_begins_with_a_comma() -> None:
    long = equation("H_pre = sigmoid(a_pre x~ phi_pre + b_pre) + 1e-6,  x = y")
    assert long.count("<wbr/>") == 2
    assert "</math>," not in long


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("x @ y", "'@'"),
        ("x <- frobnicate(x)", "'frobnicate'"),
        ("x_frob", "'frob'"),
        ("x <- F(n(x)", "the end"),
        ("x + y)", "')'"),
        (": x", "':'"),
        ("x_+", "'+'"),
        ("[[a, b]", "the end"),
        ("<script>alert(1)</script>", "'script'"),
    ],
)
def test_what_is_not_of_the_notation_is_an_error_that_names_it(text: str, named: str) -> None:
    with pytest.raises(EquationError, match=re.escape(named)):
        equation(text)
