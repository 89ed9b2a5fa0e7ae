"""A comparison that starts from earlier weights takes its shape, its tokenizer and its first scheme from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from addnorm.config import Shape
from addnorm.errors import UserError
from addnorm.interop import start
from addnorm.interop.another_scheme import as_trained
from addnorm.interop.init_sources import is_fresh
from addnorm.specification import parts
from addnorm.studies.spec import CompareConfig


def completed(given: Mapping[str, Any], defaults: Mapping[str, Any], training: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `CompareConfig` for the weights that `given["init"]` names.

    The schemes are those that were given, or the one of the weights, which is then the baseline, and the defaults'
    others; what they leave open about their norms is as in the weights. There is one depth, that of the weights.

    Args:
        given: the fields that the user chose.
        defaults: fields with other defaults for the task.
        training: what the task is trained with by default; where it starts from earlier weights, its learning rate and
            warm-up are taken.

    Raises:
        UserError: there is nothing to start from under that name, its body is not one of ours, or a field that was
            given is another one's.
    """
    own, init = {field.name for field in fields(CompareConfig)}, str(given["init"])
    shape = {field.name for field in fields(Shape)}
    found = start.completed({name: value for name, value in given.items() if name in shape}, init)
    scheme, layers = found.pop("scheme"), (found.pop("num_layers"),)
    if "layers" in given and tuple(given["layers"]) != layers:
        came = ", ".join(map(str, given["layers"]))
        raise UserError(f"layers={came} came, but {init} has {layers[0]}; leave --layers out.")
    name = parts("scheme", scheme)[0]
    others = [other for other in defaults.get("schemes", CompareConfig.schemes) if parts("scheme", other)[0] != name]
    taken = {key: value for key, value in found.items() if key in own}
    trained = {} if is_fresh(training.get("init", "xavier")) else _as_trained(training)
    chosen = {**defaults, **trained, "schemes": (scheme, *others), "baseline": scheme, **taken, **given}
    schemes = tuple(as_trained(text, scheme) for text in chosen["schemes"])
    baseline = as_trained(str(chosen["baseline"]), scheme)
    return {**chosen, "schemes": schemes, "baseline": baseline, "layers": layers}


def _as_trained(training: Mapping[str, Any]) -> dict[str, Any]:
    found = {"warm_up": training["warm_up"]} if "warm_up" in training else {}
    return found | ({"learning_rates": (training["learning_rate"],)} if "learning_rate" in training else {})
