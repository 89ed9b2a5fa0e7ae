"""A language model of `transformers` without some of its layers, as a folder that `transformers` loads."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from addnorm.data.texts import plain_text
from addnorm.data.tokens.tokenizer import FILE as TOKENIZER_FILE
from addnorm.data.tokens.tokenizer import load as load_tokenizer
from addnorm.diagnosis.layer_influence import Pruned, layer_influences, least
from addnorm.errors import UserError

SEQUENCES, TOKENS = 8, 128
"""Of the training text for the influence, and of the validation text for the loss."""
SAME = 1e-4  # of the largest logit; the same weights, the same arithmetic


def prune_folder(folder: Path, layers: int, out: Path, *, data: str = "shakespeare") -> Pruned:
    """Drop the layers of least influence and write what is left.

    Args:
        folder: config.json, safetensors and tokenizer.json of a language model; no code in it is run.
        layers: how many are dropped.
        out: a new folder.
        data: a text that the influence and the losses are taken on.

    Raises:
        UserError: the folder is no language model, `out` exists, or what is left is not the same when it is read again.
    """
    if out.exists():
        raise UserError(f"{out} exists already; name another folder.")
    tokenizer, splits = load_tokenizer(folder / TOKENIZER_FILE), plain_text.load(data)
    train, held_out = (_batch(tokenizer, split) for split in (splits.train, splits.validation))
    model = _opened(folder)
    place, blocks = _layers(model)
    runs = [lambda row=row: model(input_ids=row[None], use_cache=False) for row in train]
    influences = layer_influences(model, list(blocks), blocks[-1], runs, inside=True)
    dropped, before, whole = least(influences, layers), _loss(model, held_out), _count(model)
    drop_(model, place, dropped)
    after = _written(model, folder, out, held_out)
    return Pruned(
        influences=influences,
        dropped=dropped,
        before=before,
        after=after,
        parameters=(whole, _count(model)),
        loss_name="nats per token",
        out=out,
    )


def drop_(model: Any, place: str, dropped: Sequence[int]) -> None:
    """Take layers out of a model and out of its config: their number, lists of one entry each, their own indices."""
    parent = model.get_submodule(place.rpartition(".")[0])
    blocks = model.get_submodule(place)
    kept = [i for i in range(len(blocks)) if i not in dropped]
    config = model.config.get_text_config()
    for name, value in vars(config).items():
        if isinstance(value, list) and len(value) == len(blocks):
            setattr(config, name, [value[i] for i in kept])
    config.num_hidden_layers = len(kept)
    setattr(parent, place.rpartition(".")[2], nn.ModuleList(blocks[i] for i in kept))
    for new, old in enumerate(kept):
        for module in blocks[old].modules():
            if getattr(module, "layer_idx", None) == old:
                module.layer_idx = new


def _opened(folder: Path) -> Any:
    """The model, in evaluation and float32.

    Raises:
        UserError: it is no language model, has no safetensors, or needs code that is not in `transformers`.
    """
    try:
        from transformers import AutoModelForCausalLM
    except ImportError:
        raise UserError("pruning a Hugging Face folder needs transformers; pip install 'addnorm[hf]'.") from None
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except Exception as error:  # each of its dependencies raises its own
        text = " ".join(str(error).split())[:200]
        raise UserError(
            f"{folder} is not opened as a language model ({type(error).__name__}: {text}); give a folder with "
            "config.json and safetensors that AutoModelForCausalLM reads without code of its own."
        ) from error
    if missing := sorted(found["missing_keys"]):  # it would be filled with noise
        raise UserError(
            f"{folder} has no {missing[0]}, which a {type(model).__name__} has; give the folder of a language "
            "model with its head."
        )
    return model.eval()


def _opened_again(part: Path, model: Any) -> Any:
    """What was written; a model may have weights beside its layers whose size is their number."""
    try:
        return _opened(part)
    except UserError as error:
        raise UserError(
            f"{type(model).__name__} cannot be read again without these layers: weights beside them are of their "
            "number; train a shallower model."
        ) from error


def _layers(model: Any) -> tuple[str, nn.ModuleList]:
    """The list of the model's layers, by its name and by their number in the config."""
    count = model.config.get_text_config().num_hidden_layers
    found = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    ]
    if not found or model.config.is_encoder_decoder:
        raise UserError(f"{type(model).__name__} has no single list of {count} layers; prune takes a decoder.")
    return max(found, key=lambda item: sum(parameter.numel() for parameter in item[1].parameters()))


def _batch(tokenizer: Any, documents: Any) -> Tensor:
    """The first tokens of a text: `(SEQUENCES, TOKENS)`, fewer of a short one."""
    ids: list[int] = []
    for document in documents:
        ids.extend(int(i) for i in tokenizer.encode(document.text[: 16 * SEQUENCES * TOKENS]))
        if len(ids) >= SEQUENCES * TOKENS:
            break
    rows = min(len(ids) // TOKENS, SEQUENCES)
    if rows < 1:
        raise UserError(f"the text has {len(ids)} tokens; give --data a text of {TOKENS} tokens or more.")
    return torch.tensor(ids[: rows * TOKENS]).view(rows, TOKENS)


@torch.no_grad()
def _loss(model: Any, ids: Tensor) -> float:
    """Nats a token, each sequence alone."""
    losses = [float(model(input_ids=row[None], labels=row[None], use_cache=False).loss) for row in ids]
    return sum(losses) / len(losses)


def _written(model: Any, folder: Path, out: Path, held_out: Tensor) -> float:
    """Write, read again, compare, and only then let it stand; the loss of what was read again."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.", suffix=".part"))
    try:
        model.save_pretrained(part)
        for path in folder.iterdir():
            if (
                path.is_file()
                and path.suffix in (".json", ".model", ".txt", ".jinja")
                and not (part / path.name).exists()
            ):
                shutil.copyfile(path, part / path.name)
        again = _opened_again(part, model)
        with torch.no_grad():
            ours, theirs = (one(input_ids=held_out[:1], use_cache=False).logits for one in (model, again))
        if float((ours - theirs).abs().max()) > SAME * float(ours.abs().max()):
            raise UserError(
                f"{type(model).__name__} without these layers is another model when it is read again: its config does "
                "not describe it; drop other layers, or train a shallower one."
            )
        loss = _loss(again, held_out)
        os.chmod(part, 0o755)
        os.replace(part, out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return loss


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
