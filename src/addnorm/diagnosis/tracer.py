"""One forward and one backward of a model, taken apart along its trunks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from addnorm.diagnosis.attention_weights import attention_weights
from addnorm.diagnosis.chunks import joined, parts_of, rows_of
from addnorm.diagnosis.find import found_in
from addnorm.diagnosis.paths import Path
from addnorm.diagnosis.running import as_it_was, does_not_fit, gradients, is_out_of_memory, recorded
from addnorm.diagnosis.tape import Tape, leaves
from addnorm.diagnosis.trace import Trace
from addnorm.diagnosis.trunk import Trunk
from addnorm.errors import UserError

Loss = Callable[[Any], Tensor]


def trace(
    model: nn.Module,
    batch: Any,
    trunks: Trunk | Sequence[Trunk] | None = None,
    *,
    targets: Tensor | None = None,
    loss: Loss | None = None,
    rows: int | None = None,
) -> list[Trace]:
    """What a batch leaves on each trunk: states, reads, writes, and the gradient of the loss at each state.

    The model runs in evaluation and is left as it was. Where a batch does not fit memory it is halved until it does.

    Args:
        model: any module.
        batch: as `find` takes it; the batch is the first dimension of its tensors.
        trunks: what `find` found; by default all that the model has.
        targets: class of each token (or of each sample), for the cross-entropy of the logits; -100 = none.
        loss: of what the model returns; by default the model's own, where it returns one.
        rows: samples at once at most.

    Raises:
        UserError: the model does not run on the batch, has no such trunk, or one sample does not fit memory.
    """
    wanted = [trunks] if isinstance(trunks, Trunk) else trunks
    size = rows_of(batch)
    rows = size if rows is None else min(rows, size)
    while True:
        try:
            with as_it_was(model):
                return joined([_traced(model, part, wanted, loss) for part in parts_of(batch, targets, rows)])
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if rows <= 1:
                raise does_not_fit(model) from error
        rows = (rows + 1) // 2


def _traced(model: nn.Module, part: Any, wanted: Sequence[Trunk] | None, loss: Loss | None) -> list[Trace]:
    tape, output = recorded(model, part.batch)
    found = _chosen(found_in(tape), wanted)
    value = loss_of(output, part.targets, loss)
    of_values = _gradients(tape, found, value, part.share)
    attention = attention_weights(tape)
    return [_trace(tape, path, value, of_values, attention, part) for path in found]


def _chosen(found: list[Path], wanted: Sequence[Trunk] | None) -> list[Path]:
    if wanted is None:
        return found
    by_name = {(path.trunk.name, len(path.trunk.sublayers)): path for path in found}
    missing = [trunk for trunk in wanted if (trunk.name, len(trunk.sublayers)) not in by_name]
    if missing:
        has = ", ".join(f"'{name}' of {depth} sublayers" for name, depth in by_name)
        raise UserError(
            f"no trunk '{missing[0].name}' of {len(missing[0].sublayers)} sublayers in this forward, which has {has}; "
            "find the trunks with a batch like the one to trace."
        )
    return [by_name[trunk.name, len(trunk.sublayers)] for trunk in wanted]


def loss_of(output: Any, targets: Tensor | None, loss: Loss | None) -> Tensor | None:
    """The loss of what a model returned: the user's, the cross-entropy of targets, or its own; None without any."""
    if loss is not None:
        return loss(output)
    if targets is not None:
        return F.cross_entropy(logits_of(output).flatten(0, -2).float(), targets.flatten())
    own = output.get("loss") if isinstance(output, dict) else getattr(output, "loss", None)
    return own if isinstance(own, Tensor) and own.ndim == 0 else None


def logits_of(output: Any) -> Tensor:
    """What a model returns as logits: by name, or its first tensor."""
    named = output.get("logits") if isinstance(output, dict) else getattr(output, "logits", None)
    found = named if isinstance(named, Tensor) else next((x for x in leaves(output) if isinstance(x, Tensor)), None)
    if found is None:
        raise UserError(f"the model returns a {type(output).__name__} without a tensor; give loss=, a function of it.")
    return found


def _gradients(tape: Tape, found: list[Path], loss: Tensor | None, share: float) -> dict[int, Tensor]:
    """By value, of the loss of the whole batch."""
    if loss is None or not loss.requires_grad:
        return {}
    asked = {index for path in found for index in path.values if tape.values[index].edge is not None}
    edges = {index: tape.values[index].edge for index in sorted(asked)}
    grads = gradients(loss * share, list(edges.values()))
    return {index: grad.detach() for index, grad in zip(edges, grads, strict=True) if grad is not None}


def _trace(
    tape: Tape,
    path: Path,
    loss: Tensor | None,
    of_values: dict[int, Tensor],
    attention: dict[str, Tensor],
    part: Any,
) -> Trace:
    states, (hidden, final) = path.states(tape), path.ends(tape)
    held = f"{path.trunk.name}." if path.trunk.name else ""
    return Trace(
        trunk=path.trunk,
        states=states,
        reads=[_detached(tape, site.read) for site in path.sites],
        writes=path.writes(tape),
        state_gradients=path.gradients(tape, of_values) if of_values else (),
        hidden=hidden,
        final=final,
        loss=None if loss is None else float(loss.detach()) * part.share,
        mask=_mask(part.batch, states[0]),
        attention={name: weights for name, weights in attention.items() if name.startswith(held)},
        non_finite=tape.non_finite,
    )


def _detached(tape: Tape, value: int | None) -> Tensor | None:
    return None if value is None else tape.values[value].tensor.detach()


def _mask(batch: Any, state: Tensor) -> Tensor | None:
    """Which tokens are real, by the batch's own mask."""
    if not hasattr(batch, "keys"):
        return None
    for name in ("decoder_attention_mask", "attention_mask", "keep"):
        mask = batch.get(name)
        if isinstance(mask, Tensor) and mask.shape == state.shape[: mask.ndim] and mask.ndim == state.ndim - 2:
            return mask.bool()
    return None
