"""What a sublayer says of itself beside its `forward`; any module is one, and may say nothing."""

from __future__ import annotations

from torch import Tensor, nn

from addnorm.layers.inside import Inside


def value_paths(sublayer: nn.Module) -> list[tuple[nn.Linear, ...]]:
    """Its linears from input to output projection, path by path: of `value_paths()`, or none."""
    return getattr(sublayer, "value_paths", list)()


def stream_weights(sublayer: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Its weights whose rows, and those whose columns, are vectors of the stream: of `stream_weights()`, or none."""
    return getattr(sublayer, "stream_weights", lambda: ([], []))()


def built_for(sublayer: nn.Module) -> Inside:
    """What stands within it for a scheme: its `built_for`, or nothing."""
    return getattr(sublayer, "built_for", Inside())
