"""What gradient the weights of each sublayer get, and how far a step moves them.

    g = || d loss / d w ||;    relative = g / || w ||;    update ratio = || w_after - w_before || / || w_before ||

The update ratio of a run that learns lies about 1e-3 (Karpathy 2022, github.com/karpathy/nn-zero-to-hero, lecture 4);
it is far below where a sublayer does not learn. `addnorm.probes.signal` measures it for a stack in training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from addnorm.diagnosis.subject import Series, Subject
from addnorm.diagnosis.trunk import Trunk


def weight_gradient(subject: Subject) -> list[Series]:
    """Norm and relative norm of each sublayer; None of one without weights, 0 where none gets a gradient."""
    if subject.loss is None:
        return []
    weights = sublayer_weights(subject.trace.trunk, subject.model)
    asked = list({id(w): w for group in weights for w in group if w.requires_grad}.values())
    if not asked:
        return []
    with torch.enable_grad():
        found = torch.autograd.grad(subject.loss(), asked, allow_unused=True)
    gradients = {id(w): g for w, g in zip(asked, found, strict=True) if g is not None}
    norms = [_norm([gradients[id(w)] for w in group if id(w) in gradients]) if group else None for group in weights]
    sizes = [_norm(group) for group in weights]
    relative = [None if norm is None or not size else norm / size for norm, size in zip(norms, sizes, strict=True)]
    label = "norm of the loss's gradient"
    named = {
        "weight gradient": (label, norms),
        "relative weight gradient": (f"{label} over that of the weights", relative),
    }
    return [
        Series(name=name, along="sublayer", values=values, places=subject.sublayer_names, label=text)
        for name, (text, values) in named.items()
    ]


class Updates:
    """How far each sublayer's weights move from where they are when this is made.

    Args:
        trunk: whose sublayers.
        model: that holds them.
    """

    def __init__(self, trunk: Trunk, model: nn.Module) -> None:
        self.weights = sublayer_weights(trunk, model)
        self.before = [[w.detach().clone() for w in group] for group in self.weights]

    def ratios(self) -> list[float | None]:
        """Relative to where they were; None of a sublayer without weights."""
        pairs = zip(self.weights, self.before, strict=True)
        moved = [_norm([w.detach() - b for w, b in zip(group, before, strict=True)]) for group, before in pairs]
        sizes = [_norm(before) for before in self.before]
        return [distance / size if size else None for distance, size in zip(moved, sizes, strict=True)]


def sublayer_weights(trunk: Trunk, model: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters between what each sublayer reads and writes, where the trunk tells them; else its module's."""
    named = dict(model.named_parameters(remove_duplicate=False))
    own = [list(model.get_submodule(one.name).parameters()) if one.name else [] for one in trunk.sublayers]
    told = [[named[name] for name in one.parameters if name in named] for one in trunk.sublayers]
    return [some or module for some, module in zip(told, own, strict=True)]


@torch.no_grad()
def _norm(tensors: Sequence[Tensor]) -> float:
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors))
