"""All that is looked at in a model: its trunks, what they do by depth, what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from addnorm.diagnosis.chunks import parts_of, rows_of
from addnorm.diagnosis.evidence import Evidence, gather
from addnorm.diagnosis.finding import Finding
from addnorm.diagnosis.measures import FROM_THE_TRACE, MEASURES, Measure, measure
from addnorm.diagnosis.running import call, does_not_fit, is_out_of_memory
from addnorm.diagnosis.subject import Series, Subject
from addnorm.diagnosis.tracer import loss_of, trace
from addnorm.diagnosis.trunk import Trunk
from addnorm.diagnosis.verdicts import verdicts
from addnorm.diagnosis.verdicts.streams import streams
from addnorm.errors import UserError
from addnorm.files import finite

DEPTH = {"quick": FROM_THE_TRACE, "full": MEASURES}


@dataclass(frozen=True, kw_only=True)
class OfTrunk:
    """One trunk, and its measures by depth."""

    trunk: Trunk
    series: tuple[Series, ...]

    def of(self, name: str) -> Series | None:
        """The measure of a name; None where it did not apply."""
        return next((series for series in self.series if series.name == name), None)


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What was found in a model on one batch.

    Args:
        model: its class.
        parameters: how many numbers it learns.
        loss: of the batch; None where there was none.
        findings: what is wrong, by depth.
        trunks: with their measures.
    """

    model: str
    parameters: int
    loss: float | None
    findings: tuple[Finding, ...]
    trunks: tuple[OfTrunk, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def to_dict(self) -> dict[str, Any]:
        """As plain data; NaN and infinity as strings."""
        return finite({"sound": self.sound, **asdict(self)})

    def to_json(self) -> str:
        """As text that other programs read."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def __str__(self) -> str:
        """A line a trunk and a line a finding."""
        lines = [f"{self.model}, {self.parameters:,} parameters"]
        for each in self.trunks:
            trunk = each.trunk
            lines.append(
                f"trunk '{trunk.name}': {len(trunk.sublayers)} sublayers, {trunk.layout}"
                f"{f' of {trunk.streams}' if trunk.streams > 1 else ''}, certainty {trunk.certainty:.2f}"
            )
        lines += [str(finding) for finding in self.findings] or ["nothing found"]
        return "\n".join(lines)


def diagnose(
    model: nn.Module,
    batch: Any,
    *,
    targets: Tensor | None = None,
    loss: Callable[[Any], Tensor] | None = None,
    causal: bool | None = None,
    measures: str | Sequence[Measure] = "full",
    on_step: Callable[[str], None] = lambda text: None,
) -> Diagnosis:
    """Find a model's residual trunk, measure it by depth, and name what is wrong with it.

    The model runs in evaluation a number of times and is left as it was: weights, gradients, mode, hooks, random state.

    Args:
        model: any module.
        batch: what its forward takes: a tensor (of ids, embeddings, pixels), a tuple of arguments, a dict of keywords.
        targets: class of each token, or of each sample, for the cross-entropy of its logits; -100 = none.
        loss: of what the model returns; by default its own where it returns one. Without any, gradients are those of a
            random projection of the output, and what needs a loss is left out.
        causal: whether no token may see a later one; None = as most sublayers have it.
        measures: "full", "quick" (without those that run the model again, such as deleting each block), or a list.
        on_step: told what is being done.

    Raises:
        UserError: the model does not run on the batch, has no residual trunk, or one sample does not fit memory; of a
            batch that does not fit the first samples are taken.

    Examples:
        >>> import torch, addnorm
        >>> model = addnorm.Transformer("pre-norm", vocab_size=40, d_model=32, num_heads=4, num_layers=2)
        >>> addnorm.diagnose(model, torch.zeros(1, 8, dtype=torch.long), measures="quick").sound
        True
    """
    if isinstance(measures, str) and measures not in DEPTH:
        raise UserError(f"measures='{measures}' is not allowed; use one of {', '.join(DEPTH)}, or a list of measures.")
    chosen = DEPTH[measures] if isinstance(measures, str) else tuple(measures)

    on_step("finding the trunk")
    evidence, batch, targets = _gathered(model, batch, targets, loss)

    def scalar(output: Any) -> Tensor | None:
        return loss_of(output, targets, loss)

    findings = verdicts(evidence, causal=causal)
    on_step("tracing the batch")
    traces = trace(model, batch, targets=targets, loss=loss)
    broken = any(finding.cause == "non-finite values" for finding in findings)
    if broken:
        chosen = ()
    found = []
    for each in traces:
        subject = Subject(
            trace=each,
            model=model,
            loss=None if each.loss is None else lambda: _value(scalar(call(model, batch))),
            run=lambda: call(model, batch),
        )
        if not broken:
            findings += streams(subject)
        series = []
        for one in chosen:
            on_step(f"measuring {one.__name__.replace('_', ' ')}")
            series += measure(subject, [one])
        found.append(OfTrunk(trunk=each.trunk, series=tuple(series)))
    return Diagnosis(
        model=type(model).__name__,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        loss=traces[0].loss,
        findings=tuple(findings),
        trunks=tuple(found),
    )


def _value(loss: Tensor | None) -> Tensor:
    assert loss is not None
    return loss


def _gathered(
    model: nn.Module, batch: Any, targets: Tensor | None, loss: Callable[[Any], Tensor] | None
) -> tuple[Evidence, Any, Tensor | None]:
    """The evidence, with the first samples of the batch for which there is memory: all, or a half, a quarter and so on.

    Raises:
        UserError: there is none for one sample.
    """
    rows = rows_of(batch)
    while True:
        part = next(parts_of(batch, targets, rows))
        scalar = partial(loss_of, targets=part.targets, loss=loss)
        try:
            return gather(model, part.batch, scalar), part.batch, part.targets
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if rows <= 1:
                raise does_not_fit(model) from error
        rows = (rows + 1) // 2
