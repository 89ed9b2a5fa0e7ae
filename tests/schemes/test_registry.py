"""The folder is the registry: names, specifications and back, and mistakes in them."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from addnorm import Scheme, UserError, schemes
from addnorm.layers.norm import NORMS


def test_the_names_are_the_files_of_the_folder():
    files = [file.stem for file in Path(schemes.__file__).parent.glob("*.py") if not file.stem.startswith("_")]
    assert schemes.names() == tuple(sorted(file.replace("_", "-") for file in files))
    assert "pre-norm" in schemes.names()


@pytest.mark.parametrize("name", schemes.names())
def test_a_scheme_with_its_defaults_is_its_name(name):
    scheme = schemes.get(name)()
    assert isinstance(scheme, Scheme)
    assert schemes.name_of(scheme) == name
    assert schemes.format(scheme) == name
    assert schemes.parse(name) == scheme
    assert schemes.parse(f" {name} ( ) ") == scheme


@pytest.mark.parametrize("name", schemes.names())
def test_every_norm_comes_back_from_the_text(name):
    if "norm" not in [field.name for field in fields(schemes.get(name)) if field.init]:
        return
    for norm in NORMS:
        try:
            scheme = schemes.get(name)(norm=norm)
        except UserError:  # not every scheme allows every norm
            continue
        assert schemes.parse(schemes.format(scheme)) == scheme
        assert schemes.parse(f"{name}(norm={norm})") == scheme


@pytest.mark.parametrize("name", schemes.names())
def test_a_scheme_is_frozen_hashable_and_takes_keywords_only(name):
    scheme = schemes.get(name)()
    assert hash(scheme) == hash(schemes.parse(name))
    with pytest.raises(FrozenInstanceError):
        scheme.norm = "rms"
    with pytest.raises(TypeError):
        schemes.get(name)("layer")


@pytest.mark.parametrize("name", schemes.names())
def test_an_unknown_norm_is_named(name):
    if "norm" in [field.name for field in fields(schemes.get(name)) if field.init]:
        with pytest.raises(UserError, match="norm 'leyer' is unknown; did you mean 'layer'"):
            schemes.parse(f"{name}(norm=leyer)")


@pytest.mark.parametrize(
    "text",
    [
        "keel(alpha=3.5)",
        "layer-scale(norm=rms, init=0.001)",
        "stochastic-depth(inner=layer-scale(norm=rms, init=0.5), p_max=0.3)",
        "stochastic-depth(inner=stochastic-depth(inner=keel(alpha=2), p_max=0.2))",
    ],
)
def test_fields_and_nested_schemes_come_back_from_the_text(text):
    scheme = schemes.parse(text)
    assert schemes.parse(schemes.format(scheme)) == scheme
    assert schemes.parse(text.replace(" ", "")) == scheme


def test_a_none_comes_back_from_the_text():
    assert schemes.parse("keel(alpha=None)") == schemes.get("keel")()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prenorm", "scheme 'prenorm' is unknown; did you mean 'pre-norm'"),
        ("deepnorm", "did you mean 'deep-norm'"),
        ("", "scheme '' is unknown"),
        ("zzzz", "scheme 'zzzz' is unknown. Nearest of 61: "),
        ("../residual", "is unknown"),
        ("_describe", "scheme '_describe' is unknown"),
        ("keel(alpah=2)", "field of keel 'alpah' is unknown; did you mean 'alpha'"),
        ("keel(alpha)", "'alpha' is not field=value; fields: norm, alpha"),
        ("keel(alpha=2", "scheme 'keel(alpha=2': the parentheses do not match; write keel(field=value)"),
        ("keel(", "the parentheses do not match"),
        ("keel(alpha=2))", "the parentheses do not match"),
        ("keel(alpha=big)", "alpha=big is not allowed"),
        ("keel(alpha=2, alpha=3)", "'alpha' is given twice"),
        ("keel(diagram=add)", "field of keel 'diagram' is unknown"),
        ("stochastic-depth(inner=kel(alpha=2))", "inner=kel"),
        ("stochastic-depth(p_max=lots)", "p_max=lots is not allowed"),
    ],
)
def test_a_mistake_in_a_specification_is_one_line_that_says_what_to_do(text, message):
    with pytest.raises(UserError) as error:
        schemes.parse(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
