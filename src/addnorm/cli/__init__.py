"""The command `addnorm`: one module a subcommand; nothing here imports torch before a command needs it."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence

from addnorm.version import __version__

COMMANDS = {
    "compare": "train schemes side by side from identical sublayers on identical batches",
    "train": "train one model; resumable",
    "tokenize": "write a text of any size as tokens, to be trained on in constant memory",
    "forecast": "what schemes will do at a size before they are trained: theory beside a fresh model",
    "lr-range": "find a learning rate: one short run at rising rates",
    "evaluate": "a trained model by its field's own metrics, each beside a trivial answer",
    "report": "table, figures and page of a comparison again, from what is stored",
    "runs": "what was trained: list, show, rename, delete, open",
    "predict": "what a trained model answers to an input of yours",
    "generate": "continue a text with a trained model",
    "tasks": "what can be learned: texts, translation, questions, images, video, your own",
    "schemes": "the catalogue: equation, reference, parameters, cost, what each starts as",
    "diagnose": "what any model's residual stream does by depth, and what is wrong with it",
    "certify": "find out by behaviour what a scheme computes, and what is wrong with it",
    "reproduce": "test what papers claim with experiments of this machine's size",
    "prune": "drop the layers that do least, and say what that costs",
    "bench": "how fast this library is here beside its peers, and what its schemes cost",
    "completion": "have bash, zsh or fish complete what you type",
    "doctor": "what is fast and what is slow about this machine",
}
_HELP = """usage: addnorm COMMAND [OPTIONS]

The residual connection of a Transformer as one object: swap it, train it, compare it.

commands:
{commands}

  addnorm COMMAND --help    the options of a command
  addnorm --version
  --debug                   with any command: a traceback instead of a line when something goes wrong

exit codes: 0 done; 1 a bug in addnorm; 2 a mistake in what was asked; 3 the trained run diverged;
4 some runs of a comparison failed; 5 a certificate or a diagnosis finds a fault; 130 Ctrl-C and 143 SIGTERM,
after saving; 141 nobody reads the output"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        argv: the words after `addnorm`; by default those of this process.

    Returns:
        The exit code: 0, or as `addnorm.cli.failure` says.
    """
    from addnorm.cli.failure import report
    from addnorm.cli.interrupt import noted

    words = list(sys.argv[1:] if argv is None else argv)
    before_texts = words[: words.index("--")] if "--" in words else words
    debug = "--debug" in before_texts
    _never_fail_to_print()
    try:
        with noted(), warnings.catch_warnings():
            warnings.showwarning = warnings.showwarning if debug else _one_line_warning
            code = _run([word for place, word in enumerate(words) if word != "--debug" or place >= len(before_texts)])
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except BaseException as error:
        # A panic of a library in Rust is a BaseException; what else is one is Python's own business.
        known = isinstance(error, (Exception, KeyboardInterrupt)) or type(error).__name__ == "PanicException"
        if debug or not known:
            raise
        return report(error)


def _run(words: list[str]) -> int:
    from addnorm.errors import UserError

    if not words:
        raise UserError(f"a command is missing; give one of {', '.join(COMMANDS)}. `addnorm --help` says what they do.")
    first, *rest = words
    if first in ("-h", "--help"):
        print(_HELP.format(commands="\n".join(f"  {name:<12}{text}" for name, text in COMMANDS.items())))
        return 0
    if first == "--version":
        print(f"addnorm {__version__}")
        return 0
    if first not in COMMANDS:
        from addnorm.cli.arguments import unknown_word

        what = "flag" if first.startswith("-") else "command"
        raise unknown_word(what, first, [*COMMANDS, "--help", "--version"], "addnorm --help")
    return importlib.import_module(f"addnorm.cli.{first.replace('-', '_')}").command(rest)


def _one_line_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: object = None,
) -> None:
    """Our own warnings (a damaged checkpoint) as one line; those of other libraries are for developers: --debug."""
    if category.__module__.startswith("addnorm."):
        from addnorm.cli.failure import one_line

        print(f"addnorm: warning: {one_line(str(message))}", file=sys.stderr)


def _never_fail_to_print() -> None:
    """A terminal that cannot show a sign shows `?`."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace" if stream is sys.stdout else "backslashreplace")
