"""The weights of every attention of a forward, also where its kernel keeps them to itself.

A = softmax(q k^T scale + mask)
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from addnorm.diagnosis.tape import Op, Tape, Value

_SDPA = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")


@torch.no_grad()
def attention_weights(tape: Tape) -> dict[str, Tensor]:
    """By the name of the module that attends, `(batch, heads, queries, keys)`; a later call's name ends in " 2"."""
    found: dict[str, Tensor] = {}
    for op in tape.ops:
        weights = _weights(tape, op)
        if weights is not None and weights.ndim == 4:
            name = tape.calls[op.call].name
            count = sum(other.rpartition(" ")[0] == name or other == name for other in found)
            found[f"{name} {count + 1}" if count else name] = weights.detach()
    return found


def _weights(tape: Tape, op: Op) -> Tensor | None:
    if op.inputs and tape.values[op.inputs[0]].constant:  # a learned query looks at depths, not at tokens
        return None
    if op.name == "scaled_dot_product_attention":
        given = dict(zip(_SDPA, op.args, strict=False)) | op.kwargs
        return _of_kernel(**{name: _tensor(each) for name, each in given.items()})
    if op.name == "multi_head_attention_forward":
        return _of_module(op)
    if op.name in ("matmul", "bmm", "einsum") and op.inputs:
        return _of_softmax(tape, op)
    return None


def _of_kernel(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if enable_gqa and key.shape[-3] != query.shape[-3]:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
    scores = query.float() @ key.float().mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        visible = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~visible, float("-inf"))
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, float("-inf")) if attn_mask.dtype == torch.bool else scores + attn_mask
    return scores.softmax(-1).nan_to_num(0.0)  # a query that sees nothing


def _of_module(op: Op) -> Tensor | None:
    """The same function again, asked for what it keeps."""
    bound = inspect.signature(F.multi_head_attention_forward).bind(*op.args, **op.kwargs)
    given = {name: _tensor(each) for name, each in bound.arguments.items()}
    given |= {"need_weights": True, "average_attn_weights": False, "training": False, "is_causal": False}
    weights = F.multi_head_attention_forward(**given)[1]
    return weights if weights is None or weights.ndim == 4 else weights[None]


def _of_softmax(tape: Tape, op: Op) -> Tensor | None:
    """What multiplies the values, if a softmax made it."""
    index = op.inputs[0]
    while (made := tape.values[index].made_by) is not None:
        before = tape.ops[made]
        if before.name == "softmax":
            return tape.values[index].tensor
        if before.name not in ("to", "dropout", "float", "type_as", "masked_fill", "nan_to_num", "getitem"):
            return None
        index = before.inputs[0]
    return None


def _tensor(each: Any) -> Any:
    return each.tensor if isinstance(each, Value) else each
