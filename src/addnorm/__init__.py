"""addnorm: the residual connection of a Transformer as a first-class, swappable, measured component."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from addnorm import schemes as schemes
    from addnorm.certificates.certify import certify as certify
    from addnorm.diagnosis.diagnose import diagnose as diagnose
    from addnorm.diagnosis.recorder import Recorder as Recorder
    from addnorm.errors import UserError as UserError
    from addnorm.library import compare as compare
    from addnorm.library import train as train
    from addnorm.models.block import TransformerBlock as TransformerBlock
    from addnorm.models.decoder import Transformer as Transformer
    from addnorm.models.encoder import Encoder as Encoder
    from addnorm.models.encoder_decoder import EncoderDecoder as EncoderDecoder
    from addnorm.probes.summary import summary as summary
    from addnorm.residual import Connection as Connection
    from addnorm.residual import Exit as Exit
    from addnorm.residual import Scheme as Scheme
    from addnorm.residual import Site as Site
    from addnorm.stack import Stack as Stack
    from addnorm.training.load import load_run as load  # noqa: F401

from addnorm.version import __version__

# Loaded on first use, so that `addnorm --help` never waits for torch: a module, and the name there if it is another.
_HOMES = {
    "Connection": "residual",
    "Encoder": "models.encoder",
    "EncoderDecoder": "models.encoder_decoder",
    "Exit": "residual",
    "Recorder": "diagnosis.recorder",
    "Scheme": "residual",
    "Site": "residual",
    "Stack": "stack",
    "Transformer": "models.decoder",
    "TransformerBlock": "models.block",
    "UserError": "errors",
    "certify": "certificates.certify",
    "compare": "library",
    "diagnose": "diagnosis.diagnose",
    "load": "training.load:load_run",
    "schemes": "schemes",
    "summary": "probes.summary",
    "train": "library",
}
__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'addnorm' has no attribute '{name}'; it has {', '.join(__all__)}")
    home, _, other = _HOMES[name].partition(":")
    module = importlib.import_module(f"addnorm.{home}")
    return module if name == home else getattr(module, other or name)


def __dir__() -> list[str]:
    """The public names, also those that nobody has used yet: for `dir` and tab completion."""
    return sorted(__all__)
