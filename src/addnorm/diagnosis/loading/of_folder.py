"""A model of `transformers` from its folder: safetensors alone, and no code that the folder brings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from addnorm.diagnosis.loading.loaded import SENTENCE, TOKENS, Loaded, next_tokens, random_ids, random_numbers
from addnorm.errors import UserError

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")


def of_folder(folder: Path) -> Loaded:
    """The model in float32 and evaluation, as the class that its config names.

    Raises:
        UserError: transformers is missing, or the folder is not opened by it without code of its own.
    """
    try:
        import transformers
    except ImportError:
        raise UserError("a folder of transformers needs transformers; pip install 'addnorm[hf]'.") from None
    _check(folder, transformers)
    options: Any = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = transformers.AutoConfig.from_pretrained(folder, **options)
        named = next((name for name in config.architectures or () if hasattr(transformers, name)), "AutoModel")
        kind = getattr(transformers, named)
        model = kind.from_pretrained(folder, use_safetensors=True, dtype=torch.float32, local_files_only=True).eval()
    except Exception as error:  # each of its dependencies raises its own
        why = " ".join(str(error).split())[:200]
        raise UserError(
            f"{folder} is not opened by transformers {transformers.__version__} ({type(error).__name__}: {why}); "
            "give a folder with config.json and all of its safetensors."
        ) from error
    return _with_batch(model, _tokenizer(folder, transformers))


def _check(folder: Path, transformers: Any) -> None:
    """Refuse what needs the folder's own code, and weights that would be unpickled."""
    try:
        stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind, own = str(stored.get("model_type")), bool(stored.get("auto_map"))
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{folder / 'config.json'} is not read ({type(error).__name__}); it must be JSON.") from None
    if kind not in transformers.CONFIG_MAPPING:
        brings = "needs the code that its folder brings, which is never run" if own else "is unknown to it"
        raise UserError(
            f"model type '{kind}' {brings} (transformers {transformers.__version__}); load the model in Python "
            "yourself and call addnorm.diagnose(model, batch), or name package.module:factory."
        )
    if not list(folder.glob("*.safetensors")):
        raise UserError(
            f"{folder} has no safetensors, and nothing is unpickled; convert its weights with "
            "model.save_pretrained(folder, safe_serialization=True)."
        )


def _tokenizer(folder: Path, transformers: Any) -> Any:
    """The folder's, if it has one that opens."""
    if not any((folder / name).exists() for name in _TOKENIZERS):
        return None
    try:
        return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception:  # ids of the vocabulary do as well
        return None


def _with_batch(model: Any, tokenizer: Any) -> Loaded:
    config, given = model.config, str(model.main_input_name)
    text = config.get_text_config()
    if given == "pixel_values":
        return Loaded(model=model, batch={given: _pixels(config)}, about="random pixels")
    if given != "input_ids" or not getattr(text, "vocab_size", None):
        raise UserError(
            f"{type(model).__name__} takes {given}, for which there is no batch by default; load it in Python and call "
            "addnorm.diagnose(model, batch)."
        )
    ids, words = _ids(text, tokenizer)
    batch: dict[str, Any] = {"input_ids": ids}
    targets = next_tokens(ids) if type(model).__name__.endswith(("ForCausalLM", "LMHeadModel")) else None
    if config.is_encoder_decoder:
        start = getattr(text, "decoder_start_token_id", None) or 0
        batch["decoder_input_ids"] = torch.cat([torch.full_like(ids[:, :1], start), ids[:, :-1]], dim=1)
        targets = ids if type(model).__name__.endswith("ForConditionalGeneration") else None
    about = "a sentence" if words else "random ids"
    decode = (lambda token: tokenizer.decode([token])) if words else None
    return Loaded(model=model, batch=batch, targets=targets, words=words, decode=decode, about=about)


def _ids(config: Any, tokenizer: Any) -> tuple[Tensor, tuple[str, ...]]:
    """A sentence's ids and tokens; random ids where there is no tokenizer, or one of another vocabulary."""
    longest = getattr(config, "max_position_embeddings", None) or TOKENS
    if tokenizer is not None:
        ids = list(tokenizer(SENTENCE)["input_ids"])[: min(longest, 2 * TOKENS)]
        if ids and max(ids) < config.vocab_size:
            return torch.tensor([ids]), tuple(tokenizer.decode([i]) for i in ids)
    return random_ids(config.vocab_size, min(longest, TOKENS)), ()


def _pixels(config: Any) -> Tensor:
    vision = getattr(config, "vision_config", config)
    size = getattr(vision, "image_size", 224)
    height, width = size if isinstance(size, list | tuple) else (size, size)
    return random_numbers(2, getattr(vision, "num_channels", 3), height, width)
