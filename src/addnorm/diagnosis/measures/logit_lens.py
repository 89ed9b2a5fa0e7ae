"""What the model would predict if it ended at a depth.

    logits_i = head(norm(p S_i)),  p: how the last state's vectors are weighed at the end

nostalgebraist 2020 (lesswrong.com, "interpreting GPT: the logit lens") with the model's own final norm and head; p is
recovered from the end of the trace, and of a history its first vectors are taken, by their shares. Early depths are
read in the last one's basis, which understates what they know (Belrose et al. 2023, arXiv:2303.08112).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from addnorm.diagnosis.replay import calls
from addnorm.diagnosis.subject import Series, Subject, rows

TOP = 3


def logit_lens(subject: Subject) -> list[Series]:
    """By depth: divergence from the final prediction, agreement with its first choice, entropy; and a table.

    The table has for each depth and each token of the first sequence the likeliest predictions as pairs of id and
    probability.
    """
    states, read = lens_states(subject), readout(subject)
    if states is None or read is None:
        return []
    last = read(states[-1]).log_softmax(-1)
    found: dict[str, list[object]] = {"lens divergence": [], "lens agreement": [], "lens entropy": [], "lens table": []}
    for state in states:
        logs = read(state).log_softmax(-1)
        found["lens divergence"].append(_mean((last.exp() * (last - logs)).sum(-1), subject))
        found["lens agreement"].append(_mean((logs.argmax(-1) == last.argmax(-1)).double(), subject))
        found["lens entropy"].append(_mean(-(logs.exp() * logs).sum(-1), subject))
        found["lens table"].append(_table(logs))
    labels = (
        "KL divergence of the prediction here from the final one, in nats",
        "tokens at which the first choice is the final one",
        "entropy of the prediction in nats",
        "likeliest predictions of the first sequence",
    )
    return [
        Series(name=name, along="state", values=values, label=label)
        for (name, values), label in zip(found.items(), labels, strict=True)
    ]


@torch.no_grad()
def lens_states(subject: Subject) -> list[Tensor] | None:
    """`(*tokens, d_model)` of each depth, weighed as the last state is; None where that is no weighing."""
    trace, whole = subject.trace, subject.decomposition
    if whole is None or whole.weights is None:
        return None
    weights = whole.weights.reshape(*trace.states[-1].shape[:-1])
    found = []
    for state in trace.states:
        n = state.shape[-2]
        share = weights[..., :n]
        if n < weights.shape[-1]:
            share = share * weights.sum(-1, keepdim=True) / share.sum(-1, keepdim=True)
        found.append((share[..., None] * state.double()).sum(-2).to(state.dtype))
    return found


def readout(subject: Subject) -> Callable[[Tensor], Tensor] | None:
    """The final norm and the head; None where there is no head, or it can't be called again."""
    trunk = subject.trace.trunk
    if trunk.head is None or subject.forward is None:
        return None
    found = calls(subject.model, [trunk.head], subject.forward)
    if trunk.head not in found:
        return None
    head = found[trunk.head]
    norm = subject.model.get_submodule(trunk.final_norm) if trunk.final_norm is not None else nn.Identity()

    @torch.no_grad()
    def read(state: Tensor) -> Tensor:
        return head(norm(state)).double()

    return read


def _mean(x: Tensor, subject: Subject) -> float:
    return float(rows(x[..., None], subject.trace.mask).mean())


def _table(logs: Tensor) -> list[list[tuple[int, float]]]:
    first = logs.reshape(-1, *logs.shape[-2:])[0]
    found = first.topk(min(TOP, first.shape[-1]), dim=-1)
    pairs = zip(found.indices.tolist(), found.values.exp().tolist(), strict=True)
    return [list(zip(ids, chances, strict=True)) for ids, chances in pairs]
