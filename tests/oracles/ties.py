"""Our parameters tied to another implementation's: copied over, and compared in value and in every gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from agreement import train_
from oracles.wide import Wide


@dataclass(frozen=True, eq=False)
class Tie:
    """One parameter of ours and where the other implementation keeps it.

    Args:
        ours: our parameter.
        theirs: theirs; it may be larger, as a fused projection is.
        rows: which rows of theirs are ours, in our order.
        transposed: theirs is stored as (in, out).
        offset: what theirs lacks of ours: 1 where the gain is stored less one.
    """

    ours: nn.Parameter
    theirs: nn.Parameter
    rows: Tensor | slice = field(default_factory=lambda: slice(None))
    transposed: bool = False
    offset: float = 0.0

    def part(self, tensor: Tensor) -> Tensor:
        """What corresponds to ours in a tensor of the shape of theirs."""
        tensor = tensor.mT if self.transposed else tensor
        return tensor[self.rows].view(self.ours.shape)

    @torch.no_grad()
    def copy_(self) -> None:
        """Write ours into theirs."""
        theirs = self.theirs.mT if self.transposed else self.theirs
        theirs[self.rows] = (self.ours - self.offset).view(theirs[self.rows].shape)


def tied(ours: nn.Module, theirs: nn.Module, *, offset: float = 0.0, transposed: bool = False) -> list[Tie]:
    """The ties of two linears or of two norms: `weight` and `bias`, whichever ours has."""
    found = [Tie(ours.weight, theirs.weight, offset=offset, transposed=transposed)]
    if getattr(ours, "bias", None) is not None:
        found.append(Tie(ours.bias, theirs.bias))
    return found


def tied_fused(ours: Iterable[nn.Linear], weight: nn.Parameter, bias: nn.Parameter | None) -> list[Tie]:
    """The ties of linears whose rows another implementation keeps one under the other in one weight."""
    found, start = [], 0
    for linear in ours:
        rows = slice(start, start + linear.out_features)
        found.append(Tie(linear.weight, weight, rows))
        if linear.bias is not None:
            found.append(Tie(linear.bias, bias, rows))
        start = rows.stop
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """Our module and another implementation's, with the same weights.

    Args:
        ours, theirs: the modules.
        ties: all their parameters.
        inputs: what both are given; gradients are compared in them too.
        run_ours, run_theirs: from the inputs to the outputs that must agree.
        unused: parameters of theirs that have no part in the output.
    """

    ours: nn.Module
    theirs: nn.Module
    ties: list[Tie]
    inputs: tuple[Tensor, ...]
    run_ours: Callable[..., Tensor]
    run_theirs: Callable[..., Tensor]
    unused: list[nn.Parameter] = field(default_factory=list)


@dataclass(frozen=True)
class Differences:
    """The largest differences, each relative to the larger of 1 and the largest entry of what is compared."""

    value: float
    gradient: float


def randomise_(module: nn.Module, seed: int = 0) -> None:
    """Move every parameter off its special initial value: no gain is one, no bias zero, no two entries alike."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            scale = 0.3 if parameter.dim() < 2 else parameter.shape[-1] ** -0.5
            centre = 1.0 if parameter.dim() < 2 else 0.0
            parameter.copy_(centre + scale * drawn)


def differences(pair: Pair) -> Differences:
    """Copy our weights over and compare outputs, and gradients in every parameter and every input."""
    check_complete(pair)
    for tie in pair.ties:
        tie.copy_()
    ours, our_inputs = _output_and_grads(pair.ours, pair.run_ours, pair.inputs)
    our_grads = [
        tie.ours.grad.clone() for tie in pair.ties
    ]  # both sides may share a sublayer: theirs writes there next
    with Wide() if ours.dtype == torch.float64 else nullcontext():
        theirs, their_inputs = _output_and_grads(pair.theirs, pair.run_theirs, pair.inputs)
    assert ours.shape == theirs.shape
    pairs = zip(our_grads, pair.ties, strict=True)
    gradients = [_difference(grad, tie.part(tie.theirs.grad)) for grad, tie in pairs]
    gradients += [_difference(a, b) for a, b in zip(our_inputs, their_inputs, strict=True)]
    return Differences(_difference(ours, theirs), max(gradients))


def parted(pair: Pair) -> float:
    """How far the two come apart when each is trained by itself, in parameters and output; relative as above."""
    check_complete(pair)
    for tie in pair.ties:
        tie.copy_()
    assert not {id(tie.ours) for tie in pair.ties} & {id(tie.theirs) for tie in pair.ties}, "both train one parameter"
    ours = train_(lambda: pair.run_ours(*pair.inputs), [tie.ours for tie in pair.ties])
    with Wide() if ours.dtype == torch.float64 else nullcontext():
        # A fused parameter of theirs has several ties.
        parameters = list({id(tie.theirs): tie.theirs for tie in pair.ties}.values())
        theirs = train_(lambda: pair.run_theirs(*pair.inputs), parameters)
    found = [_difference(tie.ours.detach(), tie.part(tie.theirs.detach()) + tie.offset) for tie in pair.ties]
    return max(_difference(ours, theirs), *found)


def check_complete(pair: Pair) -> None:
    """Every parameter of ours is tied once, and every entry of theirs is tied or named as unused."""
    names = [name for name, _ in pair.ours.named_parameters(remove_duplicate=False)]
    assert len(names) == len(list(pair.ours.parameters())), "a parameter of ours stands at two places"
    ours = [id(tie.ours) for tie in pair.ties]
    assert sorted(ours) == sorted(id(p) for p in pair.ours.parameters()), "a parameter of ours is untied or tied twice"
    covered = {id(p): torch.zeros(p.shape, dtype=torch.bool) for p in pair.theirs.parameters()}
    for tie in pair.ties:
        seen = covered[id(tie.theirs)]
        (seen.mT if tie.transposed else seen)[tie.rows] = True
    free = {id(p) for p in pair.unused}
    for path, parameter in pair.theirs.named_parameters():
        assert id(parameter) in free or covered[id(parameter)].all(), f"{path} of theirs is untied"


def _output_and_grads(
    module: nn.Module, run: Callable[..., Tensor], inputs: tuple[Tensor, ...]
) -> tuple[Tensor, list[Tensor]]:
    module.zero_grad()
    leaves = [x.clone().requires_grad_() for x in inputs]
    output = run(*leaves)
    generator = torch.Generator().manual_seed(9)
    weights = torch.randn(output.shape, generator=generator, dtype=torch.float64).to(output.dtype)
    (output * weights).sum().backward()
    return output.detach(), [leaf.grad for leaf in leaves]


def _difference(a: Tensor, b: Tensor) -> float:
    assert b.abs().max() > 0, "nothing to compare: all entries are zero"
    return ((a - b).abs().max() / b.abs().max().clamp(min=1)).item()
