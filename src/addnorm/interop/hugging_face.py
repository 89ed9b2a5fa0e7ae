"""Hugging Face checkpoint directories, in and out: config.json and model.safetensors.

Only safetensors are read and written: a .bin file is a pickle, which may run code when it is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from addnorm import schemes
from addnorm.config import ModelConfig
from addnorm.data.tokenizer import FILE as TOKENIZER_FILE
from addnorm.data.tokenizer import Tokenizer
from addnorm.errors import UserError
from addnorm.files import write_atomically, write_json
from addnorm.interop.configs import BODIES, CONFIG, family_at, family_of, read_json, read_shape, their_config
from addnorm.interop.families import Family, Row
from addnorm.models.decoder import Transformer
from addnorm.models.encoder import Encoder

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """A checkpoint in our words.

    Args:
        scheme: the residual scheme's specification.
        equivalent: all specifications that compute the same with these weights, `scheme` among them.
        body: "encoder" (`addnorm.Encoder`) or "decoder" (`addnorm.Transformer`).
        shape: fields of `addnorm.config.ModelConfig`.
        weights: by our names.
        left_out: their tensors that our body has no place for, such as BERT's pooler.
    """

    scheme: str
    equivalent: tuple[str, ...]
    body: Literal["encoder", "decoder"]
    shape: dict[str, Any]
    weights: dict[str, Tensor]
    left_out: tuple[str, ...]


def load(folder: Path) -> Checkpoint:
    """The body of a checkpoint directory.

    Raises:
        UserError: the folder holds no safetensors checkpoint, or its body is not one of ours; says which field came
            and what is supported.
    """
    found, family = read_shape(folder), family_at(folder)
    theirs = _tensors(folder, family)
    weights, shape = dict[str, Tensor](), ModelConfig(**found.shape)
    for row, values in _rows(family, shape):
        tensor = theirs.pop(row.theirs, None)
        if tensor is None:
            raise UserError(f"{folder} has no tensor {row.theirs}; it is damaged, or no {family.model_type}.")
        weights.update(zip(values, _parts(folder, row, tensor), strict=True))
    left_out = tuple(sorted(theirs))
    _check_unused(folder, family, left_out, shape)
    return Checkpoint(
        scheme=found.scheme,
        equivalent=found.equivalent,
        body=family.body,
        shape=found.shape,
        weights=weights,
        left_out=left_out,
    )


def open_model(folder: Path) -> Encoder | Transformer:
    """Our body with the weights of a checkpoint directory, in evaluation.

    Raises:
        UserError: as `load`.
    """
    checkpoint = load(folder)
    # Not on the meta device: the first draw there imports torch's compiler, 6 seconds against 1 for MiniLM's weights.
    model = BODIES[checkpoint.body](schemes.parse(checkpoint.scheme), **checkpoint.shape)
    try:
        model.load_state_dict(checkpoint.weights, assign=True)
    except RuntimeError as error:
        raise UserError(f"{folder}: {' '.join(str(error).split())}; its config.json is another model's.") from error
    return model.requires_grad_().eval()


def save(model: Encoder | Transformer, folder: Path, tokenizer: Tokenizer | None = None) -> None:
    """Write a model as a checkpoint directory that `transformers` loads.

    Args:
        model: a body that is one of theirs: its scheme and shape decide which.
        folder: made if missing.
        tokenizer: written beside it, as tokenizer.json.

    Raises:
        UserError: no body of theirs computes the same; says what is in the way of each.
    """
    family, eps = family_of(model)
    ours = model.state_dict()
    tensors: dict[str, Tensor] = {}
    for row, names in _rows(family, model.config):
        joined = torch.cat([ours.pop(name) for name in names])
        # An encoder is written as their bare body, a decoder as a body with its head.
        prefix = "" if row.theirs.startswith("lm_head") or family.body == "encoder" else family.prefix
        tensors[prefix + row.theirs] = (joined.mT if row.transposed else joined).contiguous()
    assert not ours, f"{family.model_type} has no row for {sorted(ours)}"
    write_atomically(folder / WEIGHTS, lambda path: save_file(tensors, path, metadata={"format": "pt"}))
    write_json(folder / CONFIG, their_config(family, model, eps))
    if tokenizer is not None:
        tokenizer.save(folder / TOKENIZER_FILE)


def _rows(family: Family, shape: ModelConfig) -> Iterator[tuple[Row, tuple[str, ...]]]:
    """Every row of a model of a shape, its layer written into the names, and our names."""
    for row in family.rows:
        absent = {
            "head.own.": family.body == "decoder" and shape.tie_embeddings,
            "embedding.segments.": not shape.segments,
        }
        if any(left_out for start, left_out in absent.items() if row.ours[0].startswith(start)):
            continue
        for layer in range(shape.num_layers) if "{layer}" in row.theirs else (0,):
            sites = {"attention": 2 * layer, "feedforward": 2 * layer + 1}
            theirs = row.theirs.format(layer=layer)
            yield (
                Row(theirs=theirs, ours=row.ours, transposed=row.transposed),
                tuple(name.format(**sites) for name in row.ours),
            )


def _tensors(folder: Path, family: Family) -> dict[str, Tensor]:
    """Their tensors, without the prefix that models with a head put before the body's."""
    found: dict[str, Tensor] = {}
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                found.update({_without(family.prefix, name): file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
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


def _parts(folder: Path, row: Row, tensor: Tensor) -> list[Tensor]:
    """Our tensors, of one of theirs."""
    count, dimension = len(row.ours), 1 if row.transposed else 0
    if tensor.dim() <= dimension or tensor.shape[dimension] % count:
        raise UserError(f"{folder}: {row.theirs} has shape {tuple(tensor.shape)}; it is damaged.")
    tensor = tensor.mT if row.transposed else tensor
    return [part.contiguous() for part in tensor.chunk(count)]


def _check_unused(folder: Path, family: Family, left_out: tuple[str, ...], shape: ModelConfig) -> None:
    """Refuse tensors that would change what the body computes."""
    starts = tuple(name.format(layer=layer) for name in family.unused for layer in range(shape.num_layers))
    starts += ("lm_head.",) if shape.tie_embeddings else ()
    for name in left_out:
        if not name.startswith(starts):
            raise UserError(
                f"{folder} has the tensor {name}, which a {family.model_type} has not; it is not supported."
            )
