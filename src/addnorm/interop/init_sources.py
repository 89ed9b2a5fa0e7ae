"""What a run can start from, read into one form: a Hugging Face checkpoint directory, or the folder of a run."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from addnorm import schemes
from addnorm.config import INIT_RULES, Shape
from addnorm.consent import consented
from addnorm.data.tokens.pretrained_tokenizer import INSTALLED, checkpoint_folder
from addnorm.data.tokens.tokenizer import FILE as TOKENIZER_FILE
from addnorm.errors import UserError
from addnorm.files import sha256
from addnorm.interop import hugging_face
from addnorm.interop.configs import CONFIG, read_json
from addnorm.interop.weight_files import weight_files
from addnorm.json_file import read_bytes
from addnorm.manifest import Manifest
from addnorm.specification import files_in

POINTERS = ("best", "last")
WEIGHTS, STATE, MANIFEST = "model.safetensors", "state.json", "manifest.json"
_TRAINING_CHOICES = ("dropout", "attention_dropout")
LONGEST_NAME = 100
_NAME = re.compile(r"step-[0-9]{1,20}")
_FIRST_BLOCK = re.compile(r"(.*?)[^.]+\.blocks\.0\.")


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """Weights to start from.

    Args:
        name: what the user called it.
        equivalent: specifications of the schemes that it may be read under; the first is its own.
        side: what it was trained as; None if unknown.
        task: of the run it is; None for a checkpoint of another program.
        body: the body's tensors, by their names within the body.
        outside: the other tensors of a run's model (its head), by their whole names.
        left_out: tensors of another program that our body has no place for.
    """

    name: str
    equivalent: tuple[str, ...]
    side: Literal["encoder", "decoder"] | None
    task: str | None
    body: Mapping[str, Tensor]
    outside: Mapping[str, Tensor]
    left_out: tuple[str, ...] = ()


def is_fresh(init: str) -> bool:
    """Whether it names a rule for fresh weights, and nothing to start from."""
    return init in INIT_RULES


def folder_of(init: str) -> Path:
    """The folder of what there is to start from.

    Raises:
        UserError: there is none of that name.
    """
    if init in INSTALLED or Path(init).is_dir():
        return checkpoint_folder(init)
    allowed = ", ".join((*INIT_RULES, *INSTALLED))
    raise UserError(f"init '{init}' is neither {allowed} nor a folder; name one of them, or a checkpoint's folder.")


def shape_of(init: str) -> dict[str, Any]:
    """The fields of `RunConfig` that a model needs to hold the weights: its shape, and its scheme.

    Dropout is not among them: it is a choice of training.

    Raises:
        UserError: there is nothing of that name, or its body is not one of ours.
    """
    folder = folder_of(init)
    if _is_run(folder):
        _check_config(folder)
        values = read_json(folder / CONFIG)
        values["scheme"] = _scheme_of(folder, values)
        names = ("scheme", *(field.name for field in fields(Shape)))
        found = {name: values[name] for name in names if name in values}
    else:
        read, own = hugging_face.read_shape(folder), {field.name for field in fields(Shape)}
        shape = {name: value for name, value in read.shape.items() if name in own}
        found = {"scheme": read.scheme, **shape}
    return {name: value for name, value in found.items() if name not in _TRAINING_CHOICES}


def tokenizer_of(init: str) -> str | None:
    """What `RunConfig.tokenizer` must be for the weights' embedding; None if no tokenizer lies beside them.

    Raises:
        UserError: there is nothing of that name.
    """
    return f"hf:{init}" if (folder_of(init) / TOKENIZER_FILE).exists() else None


def identity_of(init: str) -> str:
    """SHA-256 of the weights: a folder's name does not say what lies in it.

    Raises:
        UserError: there is nothing of that name, or no weights.
    """
    folder = folder_of(init)
    paths = [_checkpoint(folder) / WEIGHTS] if _is_run(folder) else weight_files(folder)
    return hashlib.sha256("".join(sha256(path) for path in paths).encode()).hexdigest()


def read(init: str) -> Source:
    """The weights to start from.

    Raises:
        UserError: there is nothing of that name, it is damaged, or its body is not one of ours.
    """
    folder = folder_of(init)
    if _is_run(folder):
        return _of_run(init, folder)
    found = hugging_face.load(folder)
    return Source(
        name=init,
        equivalent=found.equivalent,
        side=found.body,
        task=None,
        body=found.weights,
        outside={},
        left_out=found.left_out,
    )


def body_prefix(names: Iterable[str]) -> str:
    """What stands before the body's names in a model's: "body." in "body.stack.blocks.0. ..."; "" if nothing does.

    >>> body_prefix(["body.stack.blocks.0.sublayer.fc1.weight", "head.weight"])
    'body.'
    """
    found = {match[1] for match in map(_FIRST_BLOCK.match, names) if match}
    return found.pop() if len(found) == 1 else ""


def _is_run(folder: Path) -> bool:
    return (folder / "checkpoints").is_dir()


def _of_run(name: str, folder: Path) -> Source:
    config, checkpoint = read_json(folder / CONFIG), _checkpoint(folder)
    _check_whole(checkpoint)
    try:
        tensors = load_file(checkpoint / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{checkpoint / WEIGHTS} cannot be read ({error}); start from another checkpoint.") from error
    ties = read_json(checkpoint / STATE).get("ties", {})
    if not isinstance(ties, dict) or not all(isinstance(kept, str) and kept in tensors for kept in ties.values()):
        raise UserError(f"{checkpoint / STATE} ties tensors that are not there; start from another checkpoint.")
    tensors |= {tied: tensors[kept] for tied, kept in ties.items()}
    prefix = body_prefix(tensors)
    task = str(config.get("task"))
    return Source(
        name=name,
        equivalent=(schemes.format(schemes.parse(_scheme_of(folder, config))),),
        side="decoder" if task.startswith("language-modeling") else None,
        task=task,
        body={key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)},
        outside={key: tensor for key, tensor in tensors.items() if not key.startswith(prefix)},
    )


def _scheme_of(folder: Path, config: Mapping[str, Any]) -> str:
    """The scheme of a run; where it is a Python file, the caller's (`addnorm.consent.trusting`)."""
    stored = str(config.get("scheme"))
    code = read_json(folder / "run.json").get("code", {}) if files_in(stored) else {}
    return consented(stored, None, folder / CONFIG, "--scheme", code)


def _checkpoint(folder: Path) -> Path:
    """The checkpoint that a run's folder calls its best, or its last."""
    for pointer in POINTERS:
        path = folder / "checkpoints" / pointer
        if not path.exists():
            continue
        try:
            name = read_bytes(path, LONGEST_NAME).decode().strip()
        except (OSError, ValueError):
            name = ""
        if not _NAME.fullmatch(name) or not (path.parent / name).is_dir():
            raise UserError(f"{path} is damaged: it names no checkpoint; resume the run, which mends it.")
        _check_is(pointer, path.parent / name)
        return path.parent / name
    raise UserError(f"{folder} has no checkpoint yet; train it first, or start from another run.")


def _check_is(pointer: str, checkpoint: Path) -> None:
    """Refuse a newest checkpoint for the best one: what a run had reached stands in the state of each."""
    counters = read_json(checkpoint / STATE).get("counters")
    if not isinstance(counters, dict):
        return
    best, loss = counters.get("best_loss"), counters.get("validation_loss")
    is_best = counters.get("validation_step") == counters.get("step") and loss == best
    if isinstance(best, (int, float)) and not is_best:
        what = "does not name the best checkpoint" if pointer == "best" else "stands alone: best is missing"
        raise UserError(f"{checkpoint.parent / pointer} {what}; resume the run, which mends it.")


def _check_config(folder: Path) -> None:
    """Refuse a run's config that is not what was written: it says the shape and the scheme of the weights."""
    fault = Manifest(folder).faults().get(CONFIG)
    if fault is not None:
        raise UserError(f"{folder / CONFIG}: {fault}; put it back, or start from another run.")


def _check_whole(checkpoint: Path) -> None:
    """Refuse a checkpoint that is not what was written."""
    _check_config(checkpoint.parent.parent)
    manifest = read_json(checkpoint / MANIFEST)
    for name in (WEIGHTS, STATE):
        if not (checkpoint / name).exists() or sha256(checkpoint / name) != manifest.get(name):
            raise UserError(f"{checkpoint / name} is damaged or missing; resume the run, or start from another one.")
