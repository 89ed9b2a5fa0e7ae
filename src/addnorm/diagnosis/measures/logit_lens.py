"""What the model would predict if it ended at a depth.

    logits_i = head(norm(p S_i)),  p: how the last state's vectors are weighed at the end

nostalgebraist 2020 (lesswrong.com, "interpreting GPT: the logit lens") with the model's own final norm and head; p is
recovered from the end of the trace, and of a history its first vectors are taken, by their shares. Where the end is no
weighing (a gate a feature, a map a stream), the model itself is run to its end from what each block was given, which
says nothing of the depths within a block. Early depths are read in the last one's basis, which understates what they
know (Belrose et al. 2023, arXiv:2303.08112).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from addnorm.diagnosis.measures.deletion import put_in_place
from addnorm.diagnosis.replay import calls
from addnorm.diagnosis.subject import Series, Subject, rows
from addnorm.probes.untouched import untouched

TOP = 3


def logit_lens(subject: Subject) -> list[Series]:
    """By depth: divergence from the final prediction, agreement with its first choice, entropy; and a table.

    The table has for each depth and each token of the first sequence the likeliest predictions as pairs of id and
    probability.
    """
    logits = lens_logits(subject)
    if logits is None or logits[-1] is None:
        return []
    last = logits[-1].double().log_softmax(-1)
    read = [None if one is None else _read(one.double().log_softmax(-1), last, subject) for one in logits]
    named = {
        "lens divergence": "KL divergence of the prediction here from the final one, in nats",
        "lens agreement": "tokens at which the first choice is the final one",
        "lens entropy": "entropy of the prediction in nats",
        "lens table": "likeliest predictions of the first sequence",
    }
    return [
        Series(name=name, along="state", values=[None if one is None else one[i] for one in read], label=label)
        for i, (name, label) in enumerate(named.items())
    ]


def lens_logits(subject: Subject) -> list[Tensor | None] | None:
    """`(*tokens, vocabulary)` of each depth; None in the place of a depth that can't be read; None without a head."""
    states, read = lens_states(subject), readout(subject)
    if states is not None and read is not None:
        return [read(state) for state in states]
    return None if subject.trace.trunk.head is None else _run_to_the_end(subject)


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
    """The final norm and the head; None where there is no head, or one of them can't be called again."""
    trunk = subject.trace.trunk
    if trunk.head is None or trunk.final_norm == "" or subject.forward is None:
        return None
    found = calls(subject.model, [trunk.head], subject.forward)
    if trunk.head not in found:
        return None
    head = found[trunk.head]
    norm = subject.model.get_submodule(trunk.final_norm) if trunk.final_norm is not None else nn.Identity()

    @torch.no_grad()
    def read(state: Tensor) -> Tensor:
        return head(norm(state))

    return read


@torch.no_grad()
def _run_to_the_end(subject: Subject) -> list[Tensor | None] | None:
    """The last block gives what an earlier one was given; the head's output is seen."""
    blocks, head = subject.blocks(), subject.trace.trunk.head
    called = blocks and type(subject.model.get_submodule(blocks[-1][0])).forward is not nn.ModuleList.forward
    if not called or not head or subject.forward is None:
        return None
    given: list[Any] = []
    seen: list[Tensor] = []
    place: list[Any] = []  # what stands in the place of the last block's output

    def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given.append(args[0] if args else next(iter(kwargs.values())))

    def see(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        seen.append(next(leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)))

    modules = [subject.model.get_submodule(name) for name, _, _ in blocks]
    handles = [module.register_forward_pre_hook(keep, with_kwargs=True) for module in modules]
    handles.append(subject.model.get_submodule(head).register_forward_hook(see))
    handles.append(modules[-1].register_forward_hook(lambda _, __, out: put_in_place(place[0], out) if place else None))
    found: list[Tensor | None] = [None] * len(subject.trace.states)
    try:
        with untouched(subject.model):
            subject.forward()
            inputs = given[: len(blocks)]
            found[blocks[-1][2]] = seen[-1]
            for (_, start, _), state in zip(blocks, inputs, strict=True):
                place[:] = [state]
                subject.forward()
                found[start] = seen[-1]
    finally:
        for handle in handles:
            handle.remove()
    return found


def _read(logs: Tensor, last: Tensor, subject: Subject) -> tuple[float, float, float, Any]:
    return (
        _mean((last.exp() * (last - logs)).sum(-1), subject),
        _mean((logs.argmax(-1) == last.argmax(-1)).double(), subject),
        _mean(-(logs.exp() * logs).sum(-1), subject),
        _table(logs),
    )


def _mean(x: Tensor, subject: Subject) -> float:
    return float(rows(x[..., None], subject.trace.mask).mean())


def _table(logs: Tensor) -> list[list[tuple[int, float]]]:
    first = logs.reshape(-1, *logs.shape[-2:])[0]
    found = first.topk(min(TOP, first.shape[-1]), dim=-1)
    pairs = zip(found.indices.tolist(), found.values.exp().tolist(), strict=True)
    return [list(zip(ids, chances, strict=True)) for ids, chances in pairs]
