"""Damaged files of a run: refused where a model is read from them, written anew where that can be."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from addnorm.errors import UserError
from addnorm.files import json_text, write_atomically
from addnorm.manifest import FILE as MANIFEST
from addnorm.manifest import DamageWarning, listed
from addnorm.training.checkpoint import POINTERS, Checkpoint, CheckpointWarning
from addnorm.training.metrics import FILE as METRICS
from addnorm.training.run_folder import RunFolder

FOR_THE_RECORD = ("environment.json", "result.json", METRICS)
"""Files that a trained model can be read without."""


def check_trusted(run: RunFolder) -> None:
    """Refuse a model whose config or tokenizer is not the one that it was trained with.

    Raises:
        UserError: names each damaged file.
    """
    faults = run.faults()
    if MANIFEST in faults:
        text = f"{run.path / MANIFEST}: {faults[MANIFEST]}; what it speaks for cannot be checked."
        warnings.warn(text, DamageWarning, stacklevel=4)
        return
    fatal = {name: text for name, text in faults.items() if name not in FOR_THE_RECORD}
    if fatal:
        raise UserError(
            f"{run.path} cannot be trusted: {listed(fatal)}; put back what was written, "
            "or train it on with --resume, which writes anew what it can."
        )


def mend(run: RunFolder, contents: Mapping[str, Any], save_reader: Callable[[Path], None]) -> None:
    """Write anew what is damaged, and refuse to go on where it does not become what was written.

    Args:
        contents: of the JSON files, by name.
        save_reader: writes the reader's files into a folder.

    Raises:
        UserError: a file is another one than at the start; the folder cannot be written.
    """
    faults = run.faults()
    if MANIFEST in faults:
        warnings.warn(f"{run.path / MANIFEST}: {faults[MANIFEST]}; written anew.", DamageWarning, stacklevel=5)
        run.manifest.path.unlink(missing_ok=True)
        run.manifest.note_files({name for name in ("config.json", *contents) if (run.path / name).exists()})
        run.note_reader(save_reader)
        return
    anew = {name: text for name, text in faults.items() if name not in ("result.json", METRICS)}
    if not anew:
        return
    for name in anew.keys() & contents.keys():
        write_atomically(run.path / name, json_text(contents[name]))
    _save_again(run, anew.keys() - contents.keys(), save_reader)
    left = {name: text for name, text in run.faults().items() if name not in FOR_THE_RECORD}
    if left:
        raise UserError(
            f"{run.path} cannot go on: {listed(left)}, and it cannot be made again; put it back, or start afresh."
        )
    warnings.warn(f"{run.path}: {listed(anew)}; written anew.", DamageWarning, stacklevel=5)
    run.manifest.note_files({name for name in anew if (run.path / name).exists()})


def _save_again(run: RunFolder, names: set[str], save_reader: Callable[[Path], None]) -> None:
    """Have the reader's damaged files as the reader writes them; the others may hold what was learned since."""
    if not names:
        return
    with tempfile.TemporaryDirectory(prefix="addnorm-reader-") as folder:
        save_reader(Path(folder))
        for path in Path(folder).iterdir():
            if path.name in names:
                write_atomically(run.path / path.name, path.read_bytes())


def warn_of_damage(run: RunFolder, checkpoint: Checkpoint, faults: dict[str, str]) -> None:
    """Say what was passed over, and what the model that is taken instead had reached."""
    for name, fault in faults.items():
        what = run.checkpoints.folder / name if name in POINTERS else f"checkpoint {name}"
        text = f"{what} is damaged: {fault}; taking step {checkpoint.state['step']} instead{_reached(checkpoint)}."
        warnings.warn(text, CheckpointWarning, stacklevel=4)


def _reached(checkpoint: Checkpoint) -> str:
    """` (validation loss 2.5, the best had 2.1)`, as far as the checkpoint says it."""
    counters = checkpoint.state.get("counters")
    if not isinstance(counters, dict):
        return ""
    loss, best = counters.get("validation_loss"), counters.get("best_loss")
    if not isinstance(loss, (int, float)) or not isinstance(best, (int, float)):
        return ""
    return f" (validation loss {loss:.4g}, the best by then {best:.4g})"
