"""Hugging Face checkpoint directories, in and out: config.json and model.safetensors.

Only safetensors are read and written: a .bin file is a pickle, which may run code when it is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from addnorm import schemes
from addnorm.config import ModelConfig
from addnorm.data.tokens.tokenizer import FILE as TOKENIZER_FILE
from addnorm.data.tokens.tokenizer import Tokenizer
from addnorm.errors import UserError
from addnorm.files import write_atomically, write_json
from addnorm.interop.configs import BODIES, CONFIG, Found, family_at, family_of, read_config, their_config, token_ids
from addnorm.interop.families import Family, TensorPair
from addnorm.interop.tokenizer_files import TOKENIZER_CONFIG, TokenizerFiles, tokenizer_files
from addnorm.interop.weight_files import WEIGHTS, tensors
from addnorm.models.decoder import Transformer
from addnorm.models.encoder import Encoder

GENERATION_CONFIG = "generation_config.json"
_TABLE, _HEAD = "embedding.tokens.weight", "head.own.weight"


@dataclass(frozen=True, kw_only=True, eq=False)
class ConvertedCheckpoint:
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


def load(folder: Path) -> ConvertedCheckpoint:
    """The body of a checkpoint directory.

    Raises:
        UserError: the folder holds no safetensors checkpoint, or its body is not one of ours; says which field came
            and what is supported.
    """
    found, family = read_config(folder), family_at(folder)
    theirs = tensors(folder, family.prefix)
    found = _with_the_head_it_has(found, family, theirs)
    weights, shape = dict[str, Tensor](), ModelConfig(**found.shape)
    for row, values in _rows(family, shape):
        tensor = theirs.pop(row.theirs, None)
        if tensor is None:
            raise UserError(f"{folder} has no tensor {row.theirs}; it is damaged, or no {family.model_type}.")
        weights.update(zip(values, _parts(folder, row, tensor), strict=True))
    left_out = tuple(sorted(theirs))
    _check_unused(folder, family, left_out, shape)
    return ConvertedCheckpoint(
        scheme=found.scheme,
        equivalent=found.equivalent,
        body=family.body,
        shape=found.shape,
        weights=weights,
        left_out=left_out,
    )


def read_shape(folder: Path) -> Found:
    """Scheme and shape of a checkpoint directory; of its weights no more is read than tells whether the head is tied.

    Raises:
        UserError: as `load`.
    """
    found, family = read_config(folder), family_at(folder)
    if not found.shape.get("tie_embeddings"):
        return found
    return _with_the_head_it_has(found, family, tensors(folder, family.prefix, _table_and_head(family)))


def _with_the_head_it_has(found: Found, family: Family, theirs: dict[str, Tensor]) -> Found:
    """The shape with a head of its own where the weights have one, whatever config.json says; as in transformers.

    Of a tied pair one tensor may lie in the files, whichever it is, or both, equal; two that differ are not tied.

    Args:
        found: what config.json says.
        family: the body.
        theirs: the tensors; of a tied pair the embedding alone is left.
    """
    if not found.shape.get("tie_embeddings"):
        return found
    table, head = _table_and_head(family)
    if head in theirs and not torch.equal(theirs[head], theirs.setdefault(table, theirs[head])):
        return replace(found, shape=found.shape | {"tie_embeddings": False})
    theirs.pop(head, None)
    return found


def _table_and_head(family: Family) -> tuple[str, str]:
    """Their names of the two tensors that may be tied."""
    names = {row.ours[0]: row.theirs for row in family.rows}
    return names[_TABLE], names[_HEAD]


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
        tokenizer: written beside it, as files from which AutoTokenizer makes one that gives the same ids. Without it
            the model is written as one that knows no special token.

    Raises:
        UserError: no body of theirs computes the same, which says what is in the way of each; or the tokenizer has more
            ids than the model.
    """
    family, eps = family_of(model)
    files = None if tokenizer is None else _files_of(tokenizer, model, family)
    ours = model.state_dict()
    written: dict[str, Tensor] = {}
    for row, names in _rows(family, model.config):
        joined = torch.cat([ours.pop(name) for name in names])
        # An encoder is written as their bare body, a decoder as a body with its head.
        prefix = "" if row.theirs.startswith("lm_head") or family.body == "encoder" else family.prefix
        written[prefix + row.theirs] = (joined.mT if row.transposed else joined).contiguous()
    assert not ours, f"{family.model_type} has no row for {sorted(ours)}"
    write_atomically(folder / WEIGHTS, lambda path: save_file(written, path, metadata={"format": "pt"}))
    special_ids = {} if files is None else files.ids
    write_json(folder / CONFIG, their_config(family, model, eps, special_ids))
    if family.body == "decoder":
        write_json(folder / GENERATION_CONFIG, token_ids(special_ids))
    if files is not None:
        write_json(folder / TOKENIZER_FILE, files.serialized)
        write_json(folder / TOKENIZER_CONFIG, files.config)


def _files_of(tokenizer: Tokenizer, model: Encoder | Transformer, family: Family) -> TokenizerFiles:
    """A tokenizer's files, for a model that has a row for each id."""
    size = model.config.vocab_size
    if tokenizer.vocab_size > size:
        raise UserError(f"the tokenizer has {tokenizer.vocab_size} ids and the model {size}; save it with its own.")
    longest = model.config.max_tokens if model.config.position == "learned" else None
    segments = model.config.segments > 0
    return tokenizer_files(tokenizer, framed=family.body == "encoder", segments=segments, longest=longest)


def _rows(family: Family, shape: ModelConfig) -> Iterator[tuple[TensorPair, tuple[str, ...]]]:
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
                TensorPair(theirs=theirs, ours=row.ours, transposed=row.transposed),
                tuple(name.format(**sites) for name in row.ours),
            )


def _parts(folder: Path, row: TensorPair, tensor: Tensor) -> list[Tensor]:
    """Our tensors, of one of theirs."""
    count, dimension = len(row.ours), 1 if row.transposed else 0
    if tensor.dim() <= dimension or tensor.shape[dimension] % count:
        raise UserError(f"{folder}: {row.theirs} has shape {tuple(tensor.shape)}; it is damaged.")
    tensor = tensor.mT if row.transposed else tensor
    return [part.contiguous() for part in tensor.chunk(count)]


def _check_unused(folder: Path, family: Family, left_out: tuple[str, ...], shape: ModelConfig) -> None:
    """Refuse tensors that would change what the body computes."""
    starts = tuple(name.format(layer=layer) for name in family.unused for layer in range(shape.num_layers))
    for name in left_out:
        if not name.startswith(starts):
            raise UserError(
                f"{folder} has the tensor {name}, which a {family.model_type} has not; it is not supported."
            )
