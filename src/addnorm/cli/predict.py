"""`addnorm predict`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from addnorm.cli.generate import visible
from addnorm.cli.invoke import invoke
from addnorm.errors import UserError


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """Which run answers, and what it is asked."""

    run: Path = field(metadata={"positional": "RUN"})
    """Folder of a run, as `addnorm train` and `addnorm compare` leave it."""
    given: str = field(metadata={"positional": "INPUT"})
    """What the task takes: a text, or the path of an image, a video or a folder of frames."""
    beside: str | None = field(default=None, metadata={"positional": "SECOND"})
    """A second text, where the task takes two: the context of a question, the other sentence."""
    task: str | None = None
    """The Python file of the run's task, where it has one of its own: a run is data, and its folder runs no code."""
    scheme: str | None = None
    """The same of its scheme; the file must be what the run was trained with."""
    out: Path | None = None
    """Folder for pictures and frames. Default: the run's folder."""
    json: bool = False
    """As JSON on standard output, and nothing else there."""


def command(words: Sequence[str]) -> int:
    """Run the words after `addnorm predict`."""
    return invoke(_predict, "predict", words, PredictOptions)


def _predict(options: PredictOptions) -> int:
    """What a trained model answers: a translation, a label, an answer, an image, the next frames.

    For a text that begins with a dash: addnorm predict RUN -- "-text".

    Examples:
      addnorm predict runs/translation "In the beginning was the word."
      addnorm predict runs/answers "Who was it?" "It was the cat."
    """
    from addnorm.cli import console
    from addnorm.cli.progress import Live

    with Live(quiet=options.json) as live:
        live.doing("loading the run")
        from addnorm.training.load import load_run

        run = load_run(options.run, task=options.task, scheme=options.scheme)
        live.doing("predicting")
        prediction = run.reader.predict(run.model, options.given, run.config, options.beside)
        written = _written(prediction.write, options.out or options.run)
    if options.json:
        console.print_json({**prediction.values, "files": [str(path) for path in written]})
        return 0
    print(visible(prediction.text))
    for path in written:
        console.out().print(f"written: {path}", markup=False, soft_wrap=True)
    return 0


def _written(write: Callable[[Path], list[Path]] | None, folder: Path) -> list[Path]:
    if write is None:
        return []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return write(folder)
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}); name a folder you may write.") from error
