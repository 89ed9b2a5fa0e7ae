"""A body's choices, from their config.json to ours and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from addnorm import schemes
from addnorm.errors import UserError
from addnorm.interop.another_scheme import eps_of
from addnorm.interop.families import FAMILIES, REQUIRED, Family
from addnorm.json_file import read_object
from addnorm.models.decoder import Transformer
from addnorm.models.encoder import Encoder

CONFIG = "config.json"
_ARTICLES = {"encoder": "an", "decoder": "a"}
BODIES: dict[str, type[Encoder] | type[Transformer]] = {"encoder": Encoder, "decoder": Transformer}


@dataclass(frozen=True, kw_only=True)
class Found:
    """What config.json says, in our words; see `Checkpoint`."""

    scheme: str
    equivalent: tuple[str, ...]
    body: Literal["encoder", "decoder"]
    shape: dict[str, Any]


def read_config(folder: Path) -> Found:
    """Scheme and shape as a checkpoint directory's config.json says them; reads no weights.

    Raises:
        UserError: the folder holds no checkpoint, or its body is not one of ours.
    """
    family, config = family_at(folder), _flattened(read_json(folder / CONFIG))
    _check_fixed(folder, family, config)
    values: dict[str, Any] = {}
    for setting in family.settings:
        value = config.get(setting.theirs, setting.default)
        if value is REQUIRED:
            raise UserError(f"{folder / CONFIG} has no {setting.theirs}, which a {family.model_type} must have.")
        translated = dict(setting.values)
        if translated and value not in translated:
            raise _unsupported(folder, family, setting.theirs, value, tuple(translated))
        values[setting.ours] = translated[value] if translated else value
    _check_head_width(folder, family, config, values)
    eps = values.pop("eps")
    equivalent = tuple(_canonical(text, eps) for text in family.schemes)
    shape = {**values, **family.ours, "init": "normal", "count_padding": family.counts_padding}
    return Found(scheme=equivalent[0], equivalent=equivalent, body=family.body, shape=shape)


def family_at(folder: Path) -> Family:
    """Which body of theirs a checkpoint directory has.

    Raises:
        UserError: there is no config.json, or it names a body that we have not.
    """
    model_type = read_json(folder / CONFIG).get("model_type")
    if model_type not in FAMILIES:
        raise UserError(
            f"{folder / CONFIG} says model_type={model_type!r}; "
            f"supported are {', '.join(FAMILIES)}, and runs of addnorm."
        )
    return FAMILIES[model_type]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        UserError: the file is missing or holds none.
    """
    try:
        value = read_object(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); name the folder of a checkpoint.") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds no JSON object; it is damaged.")
    return value


def _flattened(config: dict[str, Any]) -> dict[str, Any]:
    """The config with the choices about rotary positions beside the others, wherever a release kept them."""
    rotary = config.get("rope_scaling") or config.get("rope_parameters") or {}  # transformers' order, where both are
    kind = rotary.get("rope_type", rotary.get("type", "default"))
    base = rotary.get("rope_theta", config.get("rope_theta"))
    return config | {"rope_type": kind} | ({} if base is None else {"rope_theta": base})


def _check_fixed(folder: Path, family: Family, config: Mapping[str, Any]) -> None:
    """Refuse choices that our body does not have."""
    for name, allowed in family.theirs.items():
        value = config.get(name, family.missing.get(name, allowed[0]))
        if value not in allowed:
            raise _unsupported(folder, family, name, value, allowed, default=name not in config)


def _check_head_width(folder: Path, family: Family, config: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Refuse heads that are not as wide together as the model."""
    width, heads = values["d_model"], values["num_heads"]
    if config.get("head_dim") is not None and config["head_dim"] * heads != width:
        raise _unsupported(folder, family, "head_dim", config["head_dim"], (width / heads,))


def _unsupported(
    folder: Path, family: Family, name: str, came: Any, allowed: tuple[Any, ...], *, default: bool = False
) -> UserError:
    listed, why = " or ".join(repr(value) for value in allowed), ", which a missing field means," if default else ""
    return UserError(
        f"{folder / CONFIG}: {name}={came!r}{why} of a {family.model_type} is not supported, only {listed}."
    )


def _canonical(text: str, eps: float) -> str:
    return schemes.format(schemes.parse(text.format(eps=eps)))


def family_of(model: Encoder | Transformer) -> tuple[Family, float]:
    """The family that a model is of, and the eps of its norms.

    Raises:
        UserError: no body of theirs computes the same; says what is in the way of each.
    """
    reasons = []
    for family in FAMILIES.values():
        reason = _in_the_way(family, model)
        if reason is None:
            return family, eps_of(model.scheme)
        reasons.append(f"{family.model_type}: {reason}")
    raise UserError(f"no body of transformers is this model ({'; '.join(reasons)}).")


def _in_the_way(family: Family, model: Encoder | Transformer) -> str | None:
    """Why a model is not of a family; None if it is."""
    if not isinstance(model, BODIES[family.body]):
        return f"it is {_ARTICLES[family.body]} {family.body}"
    came = schemes.format(model.scheme)
    allowed = [_canonical(text, eps_of(model.scheme)) for text in family.schemes]
    if came not in allowed:
        return f"its scheme is {allowed[0]}, not {came}"
    if model.config.attention not in ("fused", "plain"):
        return f"its attention is full, not {model.config.attention}"
    for name, value in family.ours.items():
        if getattr(model.config, name) != value:
            return f"it has {name}={value}, not {getattr(model.config, name)}"
    for setting in family.settings:
        ours = [value for _, value in setting.values]
        if ours and getattr(model.config, setting.ours) not in ours:
            return f"it has {setting.ours}={ours[0]}, not {getattr(model.config, setting.ours)}"
    return None


def their_config(
    family: Family, model: Encoder | Transformer, eps: float, special_ids: Mapping[str, int]
) -> dict[str, Any]:
    """What config.json says of a model; a special token that it does not know is none, and not that of the family."""
    config: dict[str, Any] = {"architectures": [family.architecture], "model_type": family.model_type}
    weights = model.state_dict()
    inner = weights["stack.blocks.1.sublayer.fc1.weight"]
    kv_heads = model.config.num_kv_heads or model.config.num_heads
    special = {"eps": eps, "d_ff": inner.shape[0], "num_kv_heads": kv_heads}
    for setting in family.settings:
        value = special[setting.ours] if setting.ours in special else getattr(model.config, setting.ours)
        back = {ours: theirs for theirs, ours in reversed(setting.values)}
        config[setting.theirs] = back[value] if back else value
    config |= {name: allowed[0] for name, allowed in family.theirs.items()}
    if "rope_type" in config:
        config["rope_parameters"] = {"rope_type": config.pop("rope_type"), "rope_theta": config["rope_theta"]}
    config |= token_ids(special_ids)
    return config | {"dtype": str(inner.dtype).removeprefix("torch.")}


def token_ids(special_ids: Mapping[str, int]) -> dict[str, int | None]:
    """The fields of config.json and generation_config.json that name special tokens."""
    return {f"{name}_token_id": special_ids.get(name) for name in ("bos", "eos", "pad")}
