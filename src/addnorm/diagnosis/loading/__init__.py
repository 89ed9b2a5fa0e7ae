"""A model to look at, from what a command is given: a folder or the name of a factory."""

from __future__ import annotations

from pathlib import Path

from addnorm.diagnosis.loading.loaded import Loaded
from addnorm.errors import UserError


def load_model(text: str, *, task: str | None = None, scheme: str | None = None) -> Loaded:
    """The model that a text names, with a batch that it runs on.

    Args:
        text: the folder of a run, a folder of transformers, `package.module:factory`, or `FILE.py:factory`.
        task: the Python file of a run's task, if it has one of its own: see `addnorm.consent`.
        scheme: the same of its scheme.

    Raises:
        UserError: it is none of these, or cannot be opened.
    """
    path = Path(text).expanduser()
    if path.is_dir() and ((path / "checkpoints").is_dir() or not (path / "config.json").is_file()):
        from addnorm.diagnosis.loading.of_run import of_run

        return of_run(path, task=task, scheme=scheme)
    if path.is_dir():
        from addnorm.diagnosis.loading.of_folder import of_folder

        return of_folder(path)
    if ":" in text:
        from addnorm.diagnosis.loading.of_factory import of_factory

        return of_factory(text)
    raise UserError(
        f"model '{text}' is no folder and names no factory; give the folder of a run, a folder of transformers with "
        "config.json and safetensors (nothing is downloaded), or package.module:factory."
    )
