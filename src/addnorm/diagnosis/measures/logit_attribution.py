"""What each sublayer does for the prediction that the model makes.

    logit_y - mean logit = sum_j <u, s P c_j> + rest,    u = d (logit_y - mean logit) / d final

c_j are the parts of the final state (`addnorm.diagnosis.decomposition`), s P the final norm with its scale held, y the
model's own first choice. Exact for a linear head; of another the first-order part. Elhage et al. 2021
(transformer-circuits.pub/2021/framework), nostalgebraist 2020; through streams and histories as through one stream.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from addnorm.diagnosis.decomposition import WEIGHED
from addnorm.diagnosis.frozen_norm import FrozenNorm, norms_named
from addnorm.diagnosis.replay import calls
from addnorm.diagnosis.subject import Series, Subject, rows


@dataclass(frozen=True, kw_only=True, eq=False)
class Attribution:
    """Of each token.

    Args:
        parts: `(1 + L, all_tokens)`: of the embedding and each sublayer.
        rest: `(all_tokens,)`: of biases, and of what is of no known form.
        margin: `(all_tokens,)`: the first choice's logit over the mean one, which all of these sum up to.
    """

    parts: Tensor
    rest: Tensor
    margin: Tensor


def logit_attribution(subject: Subject) -> list[Series]:
    """The mean over tokens: of the embedding, then of each sublayer."""
    found = attribute(subject)
    if found is None:
        return []
    values = rows(found.parts.T, subject.trace.mask).mean(0).tolist()
    places = ["embedding", *subject.sublayer_names]
    label = "share in the first choice's logit over the mean one"
    return [Series(name="logit attribution", along="source", values=values, places=places, label=label)]


def attribute(subject: Subject) -> Attribution | None:
    """Of each token; None without a head, or where the way to it is no weighing of the last state's vectors."""
    trace, whole, trunk = subject.trace, subject.decomposition, subject.trace.trunk
    if whole is None or whole.end > WEIGHED or trunk.head is None or trace.final is None or subject.forward is None:
        return None
    found = calls(subject.model, [trunk.head], subject.forward)
    if trunk.head not in found:
        return None
    final = trace.final.detach().clone().requires_grad_()
    with torch.enable_grad():
        logits = found[trunk.head](final)
        margins = logits.amax(-1) - logits.mean(-1)
        (toward,) = torch.autograd.grad(margins.sum(), final)
    u = toward.detach().reshape(-1, final.shape[-1]).double()
    after = final.detach().reshape_as(whole.total).double()
    norms = norms_named(subject.model, trunk.final_norm, whole.total)
    norm = min(norms, key=lambda one: one.left_over(whole.total, after), default=None)
    shares = (_through(norm, whole.total, after, whole.parts) * u).sum(-1)
    margin = margins.detach().flatten().double()
    return Attribution(parts=shares, rest=margin - shares.sum(0), margin=margin)


def _through(norm: FrozenNorm | None, total: Tensor, final: Tensor, parts: Tensor) -> Tensor:
    """The parts after the final norm, with the scale that it had for the whole."""
    return parts if norm is None else norm.scale(total, final) * norm.linear(parts)
