"""The safetensors files of a checkpoint directory; a .bin file is a pickle, which may run code when it is loaded."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from addnorm.errors import UserError
from addnorm.interop.configs import read_json

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def tensors(folder: Path, prefix: str, only: Collection[str] | None = None) -> dict[str, Tensor]:
    """The tensors of a checkpoint directory, by their names within the body.

    Args:
        folder: the checkpoint.
        prefix: what models with a head put before the body's names.
        only: the names that are wanted; None = all.

    Raises:
        UserError: there are no safetensors files, or one is damaged.
    """
    found: dict[str, Tensor] = {}
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                names = {_without(prefix, name): name for name in file.keys()}  # noqa: SIM118
                wanted = names if only is None else names.keys() & only
                found.update({name: file.get_tensor(names[name]) for name in wanted})
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path} cannot be read ({error}); it is damaged or missing.") from error
    return found


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint directory.

    Raises:
        UserError: there are none.
    """
    if (folder / INDEX).exists():
        return _named_files(folder)
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(pattern))
    if pickled:
        raise UserError(
            f"{folder} has {pickled[0]}, a pickle, which can run code when it is loaded; only {WEIGHTS} is read. "
            "Convert it where you trust it: model.save_pretrained(folder) of transformers."
        )
    raise UserError(f"{folder} has no {WEIGHTS}; name the folder of a checkpoint.")


def _named_files(folder: Path) -> list[Path]:
    """What the index names; only files of the folder itself, for an index travels with the weights."""
    named = read_json(folder / INDEX).get("weight_map")
    names = set(named.values()) if isinstance(named, dict) and all(map(_is_text, named.values())) else set()
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise UserError(f"{folder / INDEX} names {name!r}, which is no safetensors file beside it; it is damaged.")
    if not names:
        raise UserError(f"{folder / INDEX} names no weights; it is damaged.")
    return [folder / name for name in sorted(names)]


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _without(prefix: str, name: str) -> str:
    """A tensor's name within the body, in today's spelling of a norm's parameters."""
    name = name.removeprefix(prefix)
    for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
        name = name.removesuffix(old) + new if name.endswith(old) else name
    return name
