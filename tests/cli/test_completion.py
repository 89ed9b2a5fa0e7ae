"""`addnorm completion`: the script of each shell, in that shell where it is here."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from addnorm import schemes
from addnorm.cli import COMMANDS
from addnorm.cli.completion import commands
from command_line import here

ASK = {
    # Each gets the script and the words of a line as arguments, and prints what may stand at the last of them.
    "bash": """source "$1"; shift; COMP_WORDS=(addnorm "$@"); COMP_CWORD=$#; _addnorm; echo "${COMPREPLY[@]}" """,
    "zsh": """compdef() { : }
        compadd() { [[ $1 == -- ]] && shift; print -l -- ${(M)@:#$PREFIX*} }
        _describe() { print -l -- ${(M)${${(P)2}%%:*}:#$PREFIX*} }
        _files() { : }
        source "$1"; shift; words=(addnorm "$@"); CURRENT=$(($# + 1)); PREFIX="$@[-1]"; _addnorm""",
    "fish": """source $argv[1]; complete -C "addnorm "(string join ' ' -- $argv[2..]) | string split -f1 \\t""",
}
SHELLS = [
    pytest.param(name, marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"no {name} here")) for name in ASK
]


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scripts")
    for shell in ASK:
        (folder / shell).write_text(here("completion", shell).out)
    return folder


@pytest.fixture
def completed(scripts, tmp_path):
    """What a shell offers at the end of a line."""

    def ask(shell: str, line: str) -> list[str]:
        options = ["-c", ASK[shell], *(["--"] if shell == "fish" else ["-"]), str(scripts / shell), *line.split(" ")]
        flags = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
        home = os.environ | {"HOME": str(tmp_path)}
        done = subprocess.run([shell, *flags, *options], capture_output=True, text=True, cwd=tmp_path, env=home)
        assert not done.stderr, done.stderr
        return done.stdout.split()

    return ask


@pytest.mark.parametrize("shell", SHELLS)
def test_commands_flags_and_names_are_completed(shell, completed):
    assert set(completed(shell, "")) >= set(COMMANDS)
    assert completed(shell, "comp") == ["compare", "completion"]
    assert set(completed(shell, "compare --sche")) == {"--schemes", "--schedule"}
    assert set(completed(shell, "train --scheme mh")) == {"mhc", "mhc-lite"}
    assert set(completed(shell, "train --schedule ")) >= {"cosine", "linear"}
    assert set(completed(shell, "runs ren")) == {"rename"}
    assert set(completed(shell, "reproduce sinkhorn")) == {"sinkhorn-is-approximate"}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_switch_and_a_value_are_followed_by_flags(shell, completed):
    assert "--layers" in completed(shell, "compare --json --lay")
    assert "--layers" in completed(shell, "compare --out folder --lay")


@pytest.mark.parametrize("shell", [shell for shell in SHELLS if shell.values[0] != "fish"])
def test_a_list_goes_on_and_ends_with_a_flag(shell, completed):
    assert completed(shell, "compare --schemes pre-norm mhc-") == ["mhc-lite"]
    assert "--layers" in completed(shell, "compare --schemes pre-norm --lay")


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_none_but_names(shell, scripts):
    script = (scripts / shell).read_text()
    assert "`addnorm completion" in script.splitlines()[0 if shell != "zsh" else 1]
    names = [line for line in script.splitlines() if "found='" in line or line.startswith("complete -c")]
    assert len(names) > 100 and not any(sign in line for line in names for sign in ("$(", "`", "\\"))


def test_every_command_and_every_scheme_is_known():
    told = commands()
    assert list(told) == list(COMMANDS)
    assert told["compare"].flags["--schemes"][1] == tuple(schemes.names())
    assert told["compare"].flags["--lr"] == told["compare"].flags["--learning-rates"]
    assert told["train"].flags["--no-bias"][2] == "none"
    assert all(len(command.flags) > 1 for name, command in told.items() if name != "completion")


def test_an_unknown_shell_is_refused_in_one_line():
    seen = here("completion", "tcsh")
    assert seen.code == 2 and seen.is_one_line_of_error() and "bash" in seen.err
