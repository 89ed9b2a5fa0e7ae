"""One registry under schemes, tasks, rows and claims: where an item comes from, and its text there and back."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import command_line
from addnorm import Scheme, UserError, bench, schemes, tasks
from addnorm.schemes._describe import describe
from addnorm.schemes.pre_norm import PreNorm
from addnorm.studies import claims

MINE = '''
from dataclasses import dataclass
import addnorm
from addnorm.schemes._describe import describe
from addnorm.schemes.pre_norm import PreNorm

@dataclass(frozen=True, kw_only=True)
class Mine(PreNorm):
    """Mine: Pre-LN by another name."""

    alpha: float = 0.5
    mode: str = "plain"
    inner: addnorm.Scheme = PreNorm()
    spare: addnorm.Scheme | None = None
'''
SECOND = MINE.replace("class Mine", "class Other").split("PreNorm\n\n", 1)[1]


@dataclass(frozen=True, kw_only=True)
class OfThisFile(PreNorm):
    """A scheme of a test."""

    alpha: Any = 0.5
    inner: Scheme = PreNorm()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of the user's with a scheme in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path


@pytest.mark.parametrize("registry", [schemes, tasks, bench, claims])
def test_every_file_of_a_folder_defines_its_one(registry: Any) -> None:
    assert len(registry.names()) > 5
    for name in registry.names():
        kind = registry.get(name)
        assert issubclass(kind, registry.REGISTRY.base) and registry.name_of(kind) == name
        assert registry.REGISTRY.format(registry.parse(name)) == name


@pytest.mark.parametrize("registry", [schemes, tasks, bench, claims])
def test_an_unknown_name_gets_the_nearest_ones_and_where_to_look(registry: Any) -> None:
    near = registry.names()[0]
    with pytest.raises(UserError, match=f"did you mean '{near}'.*{registry.REGISTRY.catalogue}` lists all") as error:
        registry.get(f"{near}x")
    assert str(error.value).count(", ") < 12 and "\n" not in str(error.value)


def test_an_unknown_scheme_gets_five_names_and_not_all() -> None:
    with pytest.raises(UserError, match="Nearest of 61: pre-norm, ") as error:
        schemes.get("prenorm")
    assert len(str(error.value)) < 250 and "altup" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "./mine.py",
        "./mine.py(alpha=0.3)",
        "./mine.py(mode=deep-norm)",  # a text, though a scheme has that name
        "./mine.py(inner=deep-norm)",
        "./mine.py(inner=./mine.py(alpha=2.0))",
        "./mine.py(spare=mhc(streams=2))",
        "gpas(inner=./mine.py(alpha=0.3), place=skip)",
        "by-layer(first=./mine.py, rest=gpas(inner=./mine.py(mode='a, b')))",
    ],
)
def test_a_scheme_of_a_file_comes_back_from_its_text(here: Path, text: str) -> None:
    scheme = schemes.parse(text)
    assert schemes.format(scheme) == text
    assert schemes.parse(schemes.format(scheme)) == scheme


def test_a_class_is_named_where_a_file_has_several(here: Path) -> None:
    (here / "mine.py").write_text(MINE + SECOND)
    with pytest.raises(UserError, match=r"mine.py defines 2 schemes; name one: mine.py:Mine"):
        schemes.parse("mine.py")
    assert schemes.format(schemes.parse("mine.py:Other(alpha=1.0)")) == "./mine.py:Other(alpha=1.0)"
    with pytest.raises(UserError, match="class of mine.py 'Othr' is unknown; did you mean 'Other'"):
        schemes.parse("mine.py:Othr")


def test_a_file_outside_the_working_directory_is_named_from_the_root(here: Path, tmp_path_factory: Any) -> None:
    file = tmp_path_factory.mktemp("elsewhere") / "mine.py"
    file.write_text(MINE)
    text = schemes.format(schemes.parse(f"{file}(alpha=3)"))
    assert text == f"{file}(alpha=3)" and schemes.parse(text) == schemes.parse(f"{file}(alpha=3)")


def test_a_module_that_python_has_imported_is_not_imported_again(here: Path, monkeypatch: Any) -> None:
    monkeypatch.syspath_prepend(str(here))
    (here / "an_importable_scheme.py").write_text(MINE)
    import an_importable_scheme as module  # pyrefly: ignore

    scheme = module.Mine(alpha=0.25)
    assert schemes.format(scheme) == "./an_importable_scheme.py(alpha=0.25)"
    assert schemes.parse(schemes.format(scheme)) == scheme
    del sys.modules["an_importable_scheme"]


def test_a_package_brings_schemes_by_name(here: Path, monkeypatch: Any) -> None:
    monkeypatch.syspath_prepend(str(here))
    (here / "a_package").mkdir()
    (here / "a_package" / "__init__.py").write_text("from a_package.inner import Mine")
    (here / "a_package" / "inner.py").write_text(MINE)
    points = {
        name: EntryPoint(name=name, value=value, group="addnorm.schemes")
        for name, value in {"theirs": "a_package:Mine", "wrong": "math:pi", "gone": "no_such_module:X"}.items()
    }
    monkeypatch.setattr(schemes.REGISTRY, "installed", points, raising=False)
    assert schemes.names()[-3:] == ("gone", "theirs", "wrong")
    scheme = schemes.parse("gpas(inner=theirs(alpha=0.1))")
    assert schemes.format(scheme) == "gpas(inner=theirs(alpha=0.1))"
    assert schemes.parse(schemes.format(scheme)) == scheme
    with pytest.raises(UserError, match="math:pi is no addnorm.Scheme"):
        schemes.get("wrong")
    with pytest.raises(UserError, match="'gone' of no_such_module:X cannot be imported"):
        schemes.get("gone")


@pytest.mark.slow
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.tuples(inner, inner) | st.dictionaries(st.text(), inner, max_size=2) | st.lists(inner),
        max_leaves=4,
    )
)
def test_any_plain_value_comes_back_from_the_text(value: Any) -> None:
    scheme = OfThisFile(alpha=value, inner=OfThisFile(alpha=(value, "last")))
    assert schemes.parse(schemes.format(scheme)) == scheme


def test_what_no_text_can_name_stands_in_angle_brackets(monkeypatch: Any) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Local(PreNorm):
        alpha: float = 0.5

    session = type(sys)("__main__")  # as in an interactive session: no file
    monkeypatch.setitem(sys.modules, "__main__", session)
    exec("from addnorm.schemes.pre_norm import PreNorm\nclass Typed(PreNorm): ...", vars(session))
    for scheme, text in (
        (Local(alpha=0.3), "<Local(alpha=0.3)>"),
        (vars(session)["Typed"](norm="rms"), "<Typed(norm=rms)>"),
        (schemes.get("gpas")(inner=Local()), "<gpas(inner=<Local>)>"),
        (OfThisFile(alpha=torch.ones(2)), f"<{schemes.name_of(OfThisFile)}(alpha=<Tensor>)>"),
    ):
        assert schemes.format(scheme) == text
        with pytest.raises(UserError, match="goes by no text; put its class into a file"):
            schemes.parse(text)


def test_an_abstract_class_of_a_file_is_none_of_its_schemes(here: Path) -> None:
    (here / "mine.py").write_text("import addnorm\nclass Base(addnorm.Scheme): ...\n" + MINE)
    assert type(schemes.parse("mine.py")).__name__ == "Mine"
    with pytest.raises(UserError, match="mine.py:Base has no connection; define what is missing"):
        schemes.parse("mine.py:Base")


@pytest.mark.parametrize(
    ("content", "text", "said"),
    [
        (None, "none.py", "none.py cannot be read (No such file or directory); name a Python file that defines"),
        ("x = 1", "wrong.py", "wrong.py defines no scheme; define a subclass of addnorm.Scheme in it."),
        ("x = 1", "wrong.py:x", "wrong.py:x is no addnorm.Scheme; name a subclass of it."),
        ("import nothing", "wrong.py", "wrong.py cannot be imported (ModuleNotFoundError: No module named 'nothing')"),
        ("def f(:", "wrong.py", "wrong.py cannot be imported (SyntaxError: "),
        ("import sys\nsys.exit(3)", "wrong.py", "wrong.py cannot be imported (SystemExit: 3); mend the file."),
        (MINE.replace("@dataclass(frozen=True, kw_only=True)", ""), "wrong.py", "put @dataclass(frozen=True, kw_only"),
        (MINE, "wrong.py(alpha=1, alpah=2)", "field of wrong.py 'alpah' is unknown; did you mean 'alpha'"),
        (MINE, "wrong.py(inner=prenorm)", "inner=prenorm: scheme 'prenorm' is unknown; did you mean 'pre-norm'"),
        (MINE, "wrong.py(inner=0.5)", "inner=0.5: scheme '0.5' is unknown"),
        (MINE + "    must: int", "wrong.py", "missing 1 required keyword-only argument: 'must'"),
        (MINE + "    def __post_init__(self): 1 / 0", "wrong.py", "scheme 'wrong.py': ZeroDivisionError: division by"),
    ],
)
def test_a_mistake_in_a_file_is_one_line_that_says_what_to_do(
    here: Path, content: str | None, text: str, said: str
) -> None:
    if content is not None:
        (here / "wrong.py").write_text(content)
    with pytest.raises(UserError) as error:
        schemes.parse(text)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_names_and_checks_of_a_text_import_nothing_of_the_folder(here: Path) -> None:
    code = (
        "import sys; from addnorm import schemes; schemes.names(); schemes.REGISTRY.check('mhc(streams=4)');"
        "schemes.REGISTRY.check('./mine.py'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_scheme_of_ones_own_goes_around_another(here: Path) -> None:
    (here / "mine.py").write_text(
        "from addnorm.schemes import Around\nclass Outer(Around):\n    '''Outer: as the inner.'''\n"
    )
    scheme = schemes.parse("./mine.py(inner=mhc(streams=2))")
    assert schemes.format(scheme) == "./mine.py(inner=mhc(streams=2))"
    assert scheme.inner == schemes.parse("mhc(streams=2)")


def test_a_text_is_no_number(here: Path) -> None:
    for registry, text, said in (
        (schemes, "./mine.py(alpha=much)", "alpha=much is not allowed; give a number, such as 0.5."),
        (claims, "sinkhorn-is-approximate(matrices=many)", "matrices=many is not allowed; give a number, such as"),
        (
            claims,
            "generalisations-start-as-pre-norm(depths=3)",
            "depths=3 is not allowed; give values in",
        ),
        (bench, "decoding(rounds=few)", "rounds=few is not allowed; use 1 or more"),
    ):
        with pytest.raises(UserError) as error:
            registry.parse(text)
        assert said in str(error.value)
    assert claims.parse("generalisations-start-as-pre-norm(depths=(2, 3))").depths == (2, 3)


def test_a_claim_and_a_row_of_a_file_are_run_by_their_commands(here: Path) -> None:
    for kind, base, command in (
        (
            "claim",
            "from addnorm.studies.claims.sinkhorn_is_approximate import SinkhornIsApproximate as Base",
            "reproduce",
        ),
        ("row", "from addnorm.bench.rows.mhc_memory import MhcMemory as Base", "bench"),
    ):
        (here / f"{kind}.py").write_text(f"{base}\nclass Mine(Base):\n    title = 'Of my own'\n")
        seen = command_line.here(command, f"./{kind}.py", "--list")
        assert seen.code == 0 and seen.out.startswith(f"./{kind}.py") and "Of my own" in seen.out, seen.err


def test_a_description_is_of_the_file_as_it_is_now(here: Path) -> None:
    assert describe("./mine.py").title == "Mine: Pre-LN by another name."
    (here / "mine.py").write_text(MINE.replace("another", "a third"))
    assert describe("./mine.py").title == "Mine: Pre-LN by a third name."
    (here / "mine.py").write_text(MINE.replace('"""Mine: Pre-LN by another name."""', ""))
    assert describe("./mine.py").title == "Mine"
