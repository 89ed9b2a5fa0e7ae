"""The help pages: groups, examples that work, short names."""

from __future__ import annotations

import re
import shlex
import tomllib

import pytest

from addnorm.cli.arguments import convert, scan
from addnorm.cli.flags import ALIASES, flags_of
from addnorm.config import RunConfig
from addnorm.studies.spec import CompareConfig
from cli.test_fuzz import PARTS
from command_line import here

LONG = ["--learning-rate", "0.5", "--weight-decay", "0.2", "--batch-size", "4", "--num-layers", "3", "--d-model", "32"]
SHOWN = ("train", "compare", "lr-range", "evaluate", "predict", "generate")


@pytest.mark.parametrize("name", SHOWN)
def test_a_page_has_two_examples_that_the_command_understands(name: str) -> None:
    lines = here(name, "--help").out.splitlines()
    examples = [line.strip() for line in lines if line.startswith(f"  addnorm {name} ")]
    assert len(examples) == 2
    flags = flags_of(*PARTS[name])
    for example in examples:
        words = shlex.split(example)[2:]
        assert convert(name, scan(name, words, flags), flags)


def test_a_page_names_every_flag_once_and_under_a_heading() -> None:
    lines = here("train", "--help").out.splitlines()
    flags = flags_of(*PARTS["train"])
    headings = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert headings[1:] == [
        "One training run:",
        "What is learned, and from what:",
        "The shape of a layer, and of what enters and leaves the layers:",
        "How it is trained:",
        "What is measured on the way, and what is kept:",
        "What to do with the run:",
        "Another way to give the budget:",
        "What is shown on the way:",
    ]
    for flag in flags.values():
        assert sum(re.match(rf"  {flag.flag}(,| |$)", line) is not None for line in lines) == 1


def test_arguments_without_a_dash_have_names() -> None:
    assert here("predict", "--help").out.startswith("usage: addnorm predict RUN INPUT [SECOND] [OPTIONS]\n")
    assert here("generate", "--help").out.startswith("usage: addnorm generate RUN PROMPT [OPTIONS]\n")
    assert here("reproduce", "--help").out.startswith("usage: addnorm reproduce [CLAIM ...] [OPTIONS]\n")
    assert "INPUT is missing" in here("predict", "run").err


def test_a_short_name_is_the_long_one() -> None:
    short = here("train", "--lr", "0.5", "--wd=0.2", "--bs", "4", "--depth", "3", "--dim", "32", "--print-config")
    assert short.code == 0, short.err
    assert short.out == here("train", *LONG, "--print-config").out
    rates = here("compare", "--lr", "1e-3", "2e-3", "--depth", "2,4", "--print-config")
    found = tomllib.loads(rates.out)
    assert (found["learning_rates"], found["layers"]) == ([1e-3, 2e-3], [2, 4])


def test_short_names_are_of_fields_that_exist_and_of_no_two_of_a_command() -> None:
    assert ALIASES.keys() <= flags_of(RunConfig).keys() | flags_of(CompareConfig).keys()
    for parts in PARTS.values():
        flags = flags_of(*parts)
        taken = [name for flag in flags.values() for name in (flag.flag, *flag.aliases)]
        assert len(taken) == len(set(taken))


@pytest.mark.parametrize(
    ("words", "steps"),
    [
        ("train --epochs 2", "steps = 17959"),
        ("train --task classification --init xavier --epochs 0.5", "steps = 126"),
        ("compare --epochs 0.1", "steps = [1796]"),
    ],
)
def test_epochs_are_so_many_steps(words: str, steps: str) -> None:
    seen = here(*words.split(), "--print-config")
    assert seen.code == 0, seen.err
    assert steps in seen.out.splitlines()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train --epochs 1 --steps 3", "epochs=1 are 8980 steps, but steps=3 came"),
        ("train --epochs 1 --tokens 3", "epochs=1 and tokens=3 are two budgets"),
        ("compare --epochs 1 --seconds 3", "epochs=1 and seconds=3 are two budgets"),
        ("train --epochs 0", "epochs=0.0 is not allowed; use a finite number above 0"),
        ("train --task video-prediction --epochs 1", "does not say how many steps an epoch has; give --steps"),
    ],
)
def test_epochs_beside_another_budget_are_refused(words: str, said: str) -> None:
    seen = here(*words.split())
    assert seen.code == 2 and seen.is_one_line_of_error()
    assert said in seen.err


def test_a_run_that_was_given_epochs_is_resumed_with_them(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("train", "--epochs", "0.001", "--score-items", "0", "--signals", "0", "--evaluations", "1", "--out", "run")
    first = here(*words, "--json")
    assert first.code == 0, first.err
    assert here(*words, "--json", "--resume").out == first.out
