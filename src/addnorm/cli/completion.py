"""`addnorm completion`: what a shell needs to complete words of `addnorm`, from the commands' own flags.

A script is made once and holds all names of today; make it anew after an update.
"""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args, get_origin

from addnorm.cli.flags import Flag
from addnorm.cli.invoke import FlagsWanted, invoke

NAMES = {"scheme": "schemes", "schemes": "schemes", "baseline": "schemes", "task": "tasks"}
"""Fields whose values have a catalogue."""
PLACES = {"certify": "schemes", "schemes": "schemes", "tasks": "tasks", "reproduce": "studies.claims", "bench": "bench"}
"""Commands whose first word has one."""


@dataclass(frozen=True, kw_only=True)
class CompletionOptions:
    """Which shell."""

    shell: Literal["bash", "zsh", "fish"] = field(metadata={"positional": "SHELL"})
    """The shell that the words are typed in: bash, zsh or fish."""


@dataclass(frozen=True, kw_only=True)
class Completed:
    """A command as a shell completes it.

    Args:
        text: what it does.
        words: that may stand behind it.
        flags: by the flag as typed: what it says, what it takes (empty: anything, a file for instance), and how often.
    """

    text: str
    words: tuple[str, ...]
    flags: Mapping[str, tuple[str, tuple[str, ...], Literal["none", "one", "many"]]]


def command(words: Sequence[str]) -> int:
    """Run the words after `addnorm completion`."""
    return invoke(_completion, "completion", words, CompletionOptions)


def _completion(options: CompletionOptions) -> int:
    """Print a script that has a shell complete commands, flags and names.

    Examples:
      addnorm completion bash >> ~/.bashrc
      addnorm completion fish > ~/.config/fish/completions/addnorm.fish

    For zsh: addnorm completion zsh > FOLDER/_addnorm, where FOLDER is in $fpath before compinit runs.
    """
    sys.stdout.write({"bash": _bash, "zsh": _zsh, "fish": _fish}[options.shell](commands()))
    return 0


def commands() -> dict[str, Completed]:
    """All commands by name."""
    from addnorm.cli import COMMANDS

    return {name: _completed(name, text) for name, text in COMMANDS.items()}


def _completed(name: str, text: str) -> Completed:
    module = importlib.import_module(f"addnorm.cli.{name.replace('-', '_')}")
    module.command(question := FlagsWanted())
    flags = {"--help": ("the options of the command", (), "none")}
    for flag in question.flags.values():
        if not flag.positional:
            takes = "none" if flag.is_switch else "many" if flag.is_list else "one"
            flags |= {typed: (_sentence(flag.text), _choices(flag), takes) for typed in (flag.flag, *flag.aliases)}
            if flag.is_switch and flag.default:
                flags[f"--no-{flag.flag[2:]}"] = ("the opposite of " + flag.flag, (), "none")
    places = [_choices(flag) for flag in question.flags.values() if flag.positional][:1]
    words = [*getattr(module, "ACTIONS", ()), *(places[0] if places else ()), *_names(PLACES.get(name))]
    return Completed(text=text, words=tuple(words), flags=flags)  # type: ignore[arg-type]


def _choices(flag: Flag) -> tuple[str, ...]:
    item = get_args(flag.type)[0] if flag.is_list else flag.type
    return get_args(item) if get_origin(item) is Literal else _names(NAMES.get(flag.name))


def _names(catalogue: str | None) -> tuple[str, ...]:
    return () if catalogue is None else tuple(importlib.import_module(f"addnorm.{catalogue}").names())


def _sentence(text: str) -> str:
    """The first sentence, without what quotes and brackets mean to a shell."""
    return re.sub(r"[^\w ,;.+/=-]", "", re.split(r"(?<=[a-z])[.:;] |\.$", text)[0])


def _bash(all_commands: Mapping[str, Completed]) -> str:
    return f"""# Completion of addnorm for bash, by `addnorm completion bash`.
_addnorm() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} command=${{COMP_WORDS[1]}} flag= at found=
    if ((COMP_CWORD == 1)); then
        found={_quoted([*all_commands, "--help", "--version"])}
    else
        for ((at = COMP_CWORD - 1; at > 1; at--)); do
            if [[ ${{COMP_WORDS[at]}} == --* ]]; then flag=${{COMP_WORDS[at]}}; break; fi
        done
        ((COMP_CWORD - at > 1)) && [[ ${{COMP_WORDS[COMP_CWORD-1]}}$cur != *=* ]] && flag+=" ..."
        [[ $cur == = ]] && cur=
        case "$command $flag" in
{_cases(all_commands, indent=12)}
        esac
    fi
    COMPREPLY=($(compgen -W "$found" -- "$cur"))
}}
complete -o default -F _addnorm addnorm
"""


def _zsh(all_commands: Mapping[str, Completed]) -> str:
    first = " ".join(shlex.quote(f"{name}:{_sentence(told.text)}") for name, told in all_commands.items())
    return f"""#compdef addnorm
# Completion of addnorm for zsh, by `addnorm completion zsh`.
_addnorm() {{
    local flag= at found=
    local -a first
    first=({first} --help --version)
    if ((CURRENT == 2)); then _describe command first; return; fi
    for ((at = CURRENT - 1; at > 2; at--)); do
        if [[ $words[at] == --* ]]; then flag=$words[at]; break; fi
    done
    ((CURRENT - at > 1)) && flag+=" ..."
    case "$words[2] $flag" in
{_cases(all_commands, indent=8)}
    esac
    compadd -- $=found
    if [[ -z $found || $PREFIX != -* ]]; then _files; fi
}}
if [[ $funcstack[1] == _addnorm ]]; then _addnorm "$@"; else compdef _addnorm addnorm; fi
"""


def _cases(all_commands: Mapping[str, Completed], *, indent: int) -> str:
    """For each command and the flag before the cursor the words that may come.

    `command --flag` stands right behind the flag, `command --flag ...` further on.
    """
    lines = []
    for name, told in all_commands.items():
        flags = list(told.flags)
        for flag, (_, choices, takes) in told.flags.items():
            if takes != "none":
                more = f' | "{name} {flag} ..."' if takes == "many" and choices else ""
                words = [*choices, *flags] if more else choices
                lines.append(f'"{name} {flag}"{more}) found={_quoted(words)} ;;')
        lines.append(f'"{name} "*) found={_quoted([*told.words, *flags])} ;;')
    return "\n".join(" " * indent + line for line in lines)


def _fish(all_commands: Mapping[str, Completed]) -> str:
    lines = ["# Completion of addnorm for fish, by `addnorm completion fish`."]
    lines += [f"complete -c addnorm -n __fish_use_subcommand -f -a {word}" for word in ("--help", "--version")]
    for name, told in all_commands.items():
        own = f"complete -c addnorm -n '__fish_seen_subcommand_from {name}'"
        lines.append(f"complete -c addnorm -n __fish_use_subcommand -f -a {name} -d '{_sentence(told.text)}'")
        if told.words:
            lines.append(f"{own} -a {_quoted(told.words)}")
        for flag, (text, choices, takes) in told.flags.items():
            value = "" if takes == "none" else f" -x -a {_quoted(choices)}" if choices else " -r"
            lines.append(f"{own} -l {flag[2:]}{value} -d '{text}'")
    return "\n".join(lines) + "\n"


def _quoted(words: Sequence[str]) -> str:
    return shlex.quote(" ".join(words))
