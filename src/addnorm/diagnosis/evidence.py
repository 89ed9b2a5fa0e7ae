"""What verdicts rest on: for each sublayer what it does to the state, measured in one forward and its backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from addnorm.diagnosis.adds import chains, residual_adds
from addnorm.diagnosis.find import found_in
from addnorm.diagnosis.local import Local, local_dependence
from addnorm.diagnosis.naming import parameters_between, writers
from addnorm.diagnosis.norms_in_series import norms_in_series
from addnorm.diagnosis.paths import Path
from addnorm.diagnosis.running import as_it_was, gradients, recorded
from addnorm.diagnosis.skeleton import Skeleton
from addnorm.diagnosis.tape import Tape, leaves
from addnorm.diagnosis.trunk import Sublayer
from addnorm.layers.initialise import generator_for

NORM_PLACES = ("norm_before", "norm_after", "norm_on_trunk")


@dataclass(frozen=True, kw_only=True, eq=False)
class SiteFacts:
    """One sublayer, in numbers; RMS are over all real tokens and features.

    Args:
        sublayer: which.
        name: of the module that writes; where a bare function does, of what its parameters have in common.
        state_rms: of what it reads from.
        write_rms: of what it adds.
        skip: the factor of the old state in the new one, by least squares of `new = skip * old + gain * write`.
        misfit: what that leaves, relative to the new state.
        reads_normed: whether the state itself comes from a norm.
        sum_normed: whether the next state does.
        gradient_before, gradient_after: RMS of the loss's gradient at the old and the new state; None = none arrives.
        detached: whether the new state has no graph behind it.
        spread_before, spread_after: the part of the state's squares that differs between the tokens of a sequence.
        local: which tokens see which; None where it was not to be seen.
        finite: whether what it adds and what it makes are finite.
        learns: whether any of its parameters that are trained has a gradient.
        parameters: how many parameters it has.
    """

    sublayer: Sublayer
    name: str
    state_rms: float
    write_rms: float
    skip: float
    misfit: float
    reads_normed: bool
    sum_normed: bool
    gradient_before: float | None
    gradient_after: float | None
    detached: bool
    spread_before: float
    spread_after: float
    local: Local | None
    finite: bool
    learns: bool
    parameters: int

    @property
    def block(self) -> str:
        """The repeated block that it lies in, or the empty string."""
        return block_of(self.name) or self.sublayer.block or ""

    @property
    def role(self) -> str:
        """Its name within its block: the same for sublayers that do the same at other depths."""
        block = self.block
        return self.name[len(block) + 1 :] if block and self.name.startswith(f"{block}.") else self.sublayer.kind

    @property
    def norms(self) -> frozenset[str]:
        """At which places a norm stands."""
        found = {place for place in NORM_PLACES if getattr(self.sublayer, place) is not None}
        return frozenset(found | ({"norm_on_trunk"} if self.sum_normed else set()))


@dataclass(frozen=True, kw_only=True, eq=False)
class Line:
    """The trunks that lie in one module one after the other: one of a sound model, more where the state is cut.

    Args:
        name: of the module that holds the blocks.
        parts: the sublayers of each trunk.
        cuts: what the state goes through between them.
        absent: by the name of a sublayer whose peers at other depths write to the state, what its output does
            instead: "not called", "not used", "replaces the state".
        final_norm, head: names, where there are such.
    """

    name: str
    parts: list[list[SiteFacts]]
    cuts: list[str]
    absent: dict[str, str]
    final_norm: str | None
    head: str | None

    @property
    def sites(self) -> list[SiteFacts]:
        """All of them, by depth."""
        return [site for part in self.parts for site in part]


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """All that was seen.

    Args:
        lines: one for each trunk.
        doubled: names of norms that read what another norm made, and the first's.
        non_finite: the first module whose output is not finite, and the parameters that are not.
        targets: whether the loss is the user's; else it is a random projection of the output.
    """

    lines: list[Line]
    doubled: list[tuple[str, str]] = field(default_factory=list)
    non_finite: str | None = None
    bad_parameters: list[str] = field(default_factory=list)
    targets: bool = False


def gather(model: nn.Module, batch: Any, loss: Callable[[Any], Tensor | None] | None = None) -> Evidence:
    """The evidence of one batch; the model is left as it was.

    Args:
        model: any module.
        batch: what its forward takes: a tensor, a tuple of its arguments, a dict of its keyword arguments.
        loss: of what the model returns; where it gives none, its own or a random projection of its first output.

    Raises:
        UserError: the model does not run on the batch, or has no residual trunk.
    """
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    with as_it_was(model):
        tape, output = recorded(model, batch)
        skeleton, found = Skeleton(tape), found_in(tape)
        given = None if loss is None else loss(output)
        value = _projected(output) if given is None else given
        gradients = _gradients(tape, found, value)
        learning = _learning(model, trained, value)
        lines = [_line(skeleton, group, gradients, learning) for group in _groups(tape, found)]
        states = {skeleton.root(index) for path in found for index in path.values}
        return Evidence(
            lines=lines,
            doubled=norms_in_series(skeleton, states),
            non_finite=tape.non_finite,
            bad_parameters=[name for name, p in model.named_parameters() if not bool(torch.isfinite(p).all())],
            targets=given is not None,
        )


def _projected(output: Any) -> Tensor:
    """The model's own loss, or a random projection of the first tensor it returns."""
    own = output.get("loss") if isinstance(output, dict) else getattr(output, "loss", None)
    if isinstance(own, Tensor) and own.ndim == 0 and own.requires_grad:
        return own
    first = next(leaf for leaf in leaves(output) if isinstance(leaf, Tensor) and leaf.is_floating_point())
    noise = torch.randn(first.shape, generator=generator_for(0, "projection"))
    return (first.float() * noise.to(first.device)).mean()


def _gradients(tape: Tape, found: list[Path], loss: Tensor) -> dict[int, Tensor]:
    """By value, at the states."""
    states = {index for path in found for index in (*(site.add.source for site in path.sites), path.hidden)}
    asked = sorted(index for index in states if tape.values[index].edge is not None)
    edges: Any = [tape.values[index].edge for index in asked]
    if not edges or not loss.requires_grad:
        return {}
    grads = gradients(loss, edges, keep=True)
    return {index: grad.detach() for index, grad in zip(asked, grads, strict=True) if grad is not None}


def _learning(model: nn.Module, trained: set[str], loss: Tensor) -> set[str]:
    """The parameters that are trained and have a gradient that is not zero."""
    named = {name: parameter for name, parameter in model.named_parameters() if name in trained}
    if not named or not loss.requires_grad:
        return set()
    grads = gradients(loss, list(named.values()), keep=True)
    return {name for name, grad in zip(named, grads, strict=True) if grad is not None and bool((grad != 0).any())}


def _groups(tape: Tape, found: list[Path]) -> list[list[Path]]:
    """Trunks of which one follows from the other, within one list of blocks, with the same width."""
    groups: dict[tuple[str, int], list[list[Path]]] = {}
    for path in sorted(found, key=lambda path: path.entrance):
        name, start = _name(path.trunk.sublayers[0]), tape.values[path.entrance]
        earlier = groups.setdefault((_container(block_of(name) or name), start.tensor.shape[-1]), [])
        before = next((group for group in earlier if start.depends_on(tape.values[group[-1].sites[-1].add.out])), None)
        earlier.append([path]) if before is None else before.append(path)
    return [group for earlier in groups.values() for group in earlier]


def _line(skeleton: Skeleton, group: list[Path], gradients: dict[int, Tensor], learning: set[str]) -> Line:
    name = min((path.trunk.name for path in group), key=len)
    parts = [_sites(skeleton, path, gradients, learning) for path in group]
    cuts = [_way(skeleton, one, two) for one, two in zip(group, group[1:], strict=False)]
    last = group[-1].trunk
    absent = _absent(skeleton, [site for part in parts for site in part])
    return Line(name=name, parts=parts, cuts=cuts, absent=absent, final_norm=last.final_norm, head=last.head)


def _sites(skeleton: Skeleton, path: Path, gradients: dict[int, Tensor], learning: set[str]) -> list[SiteFacts]:
    tape, found = skeleton.tape, []
    following = [site.add.source for site in path.sites[1:]] + [path.hidden]
    states, writes = path.states(tape), path.writes(tape)
    for i, (site, sublayer) in enumerate(zip(path.sites, path.trunk.sublayers, strict=True)):
        made = _sum(skeleton, following[i] if site.state is not None else None, site.add.out)
        old, new = tape.values[site.add.source].tensor.detach(), tape.values[made].tensor.detach()
        skip, misfit = _fit(new, old, [w for w, s in zip(writes, path.sites, strict=True) if s.add is site.add])
        facts = SiteFacts(
            sublayer=sublayer,
            name=_name(sublayer),
            state_rms=_rms(old),
            write_rms=_rms(writes[i]),
            skip=skip,
            misfit=misfit,
            reads_normed=_is_normed(skeleton, site.add.source),
            sum_normed=i + 1 < len(path.sites) and _is_normed(skeleton, following[i]),
            gradient_before=_rms_or_none(gradients.get(site.add.source)),
            gradient_after=_rms_or_none(gradients.get(following[i])),
            detached=tape.values[following[i]].edge is None,
            spread_before=_spread(old),
            spread_after=_spread(tape.values[following[i]].tensor.detach()),
            local=local_dependence(tape, site.add.source, site.state),
            finite=bool(torch.isfinite(writes[i]).all() and torch.isfinite(states[i + 1]).all()),
            learns=any(name in learning for name in sublayer.parameters),
            parameters=len(sublayer.parameters),
        )
        found.append(facts)
    return found


def _is_normed(skeleton: Skeleton, value: int) -> bool:
    return value in skeleton.norms or skeleton.root(value) in skeleton.norms


def _sum(skeleton: Skeleton, following: int | None, out: int) -> int:
    """What the state is before a norm on the trunk."""
    if following is None:
        return out
    root = skeleton.root(following)
    given = skeleton.norms.get(root) or skeleton.norms.get(following)
    return following if given is None else given[0]


def _fit(new: Tensor, old: Tensor, writes: Sequence[Tensor]) -> tuple[float, float]:
    """The factor of the old state in the new one, and the relative rest."""
    columns = [part.double().flatten() for part in (old, *writes)]
    if any(column.numel() != new.numel() for column in columns):
        return 1.0, float("inf")
    target = new.double().flatten()
    matrix = torch.stack(columns, dim=1)
    used = matrix.norm(dim=0) > 0
    if not bool(torch.isfinite(matrix).all() and torch.isfinite(target).all()) or not used[0]:
        return 1.0, float("inf")
    scale = matrix[:, used].norm(dim=0)
    factors = torch.linalg.lstsq(matrix[:, used] / scale, target[:, None]).solution[:, 0] / scale
    rest = target - matrix[:, used] @ factors
    return float(factors[0]), float(rest.norm() / target.norm().clamp_min(1e-30))


def _way(skeleton: Skeleton, one: Path, two: Path) -> str:
    """The functions between the end of a trunk and the entrance of the next, in a few words."""
    end = one.sites[-1].state
    assert end is not None
    names: list[str] = []
    value = two.entrance
    while (op := skeleton.op_of(value)) is not None and value != end and len(names) < 6:
        names.insert(0, op.name)
        onward = [each for each in op.inputs if skeleton.value(each).depends_on(skeleton.value(end))]
        if not onward:
            break
        value = max(onward)
    return ", ".join(names)


def _absent(skeleton: Skeleton, sites: Sequence[SiteFacts]) -> dict[str, str]:
    """Sublayers whose peers at other depths write to the state and that do not themselves."""
    modules = dict(skeleton.tape.model.named_modules())
    written = _written(skeleton) | {site.name for site in sites}
    by_role: dict[tuple[str, str], set[str]] = {}
    for site in sites:
        if site.block and site.name.startswith(f"{site.block}."):
            by_role.setdefault((_container(site.block), site.role), set()).add(site.block)
    found: dict[str, str] = {}
    for (container, role), blocks in by_role.items():
        siblings = [name for name in modules if _container(name) == container and name.rpartition(".")[2].isdecimal()]
        kinds = {type(modules.get(f"{block}.{role}")) for block in blocks} - {type(None)}
        having = [f"{name}.{role}" for name in siblings if type(modules.get(f"{name}.{role}")) in kinds]
        if len(blocks) < max(3, 0.6 * len(having)):
            continue
        found |= {name: _instead(skeleton, name) for name in having if name not in written}
    return found


def _written(skeleton: Skeleton) -> set[str]:
    """Whatever any residual add of the forward adds, also one that stands alone."""
    found = set()
    for add in (add for chain in chains(skeleton, residual_adds(skeleton)) for add in chain):
        for writer in writers(skeleton, add):
            found |= {writer.name, _common(parameters_between(skeleton, add.source, writer.value))}
    return found


def _instead(skeleton: Skeleton, name: str) -> str:
    tape = skeleton.tape
    calls = [call for call in tape.calls if call.name == name]
    if not calls:
        return "not called"
    made = [tape.values[index] for call in calls for index in call.outputs]
    outputs = [tape.values[index] for index in tape.calls[0].outputs]
    used = any(output.depends_on(value) for output in outputs for value in made)
    return "replaces the state" if used else "not used"


def _container(block: str) -> str:
    return block.rpartition(".")[0]


def block_of(name: str) -> str:
    """Up to the first number in a dotted name; empty if there is none.

    >>> block_of("model.layers.3.mlp.experts.0")
    'model.layers.3'
    """
    parts = name.split(".")
    at = next((i for i, part in enumerate(parts) if part.isdecimal()), None)
    return "" if at is None else ".".join(parts[: at + 1])


def _name(sublayer: Sublayer) -> str:
    if sublayer.name and sublayer.name != sublayer.block:
        return sublayer.name
    norms = [getattr(sublayer, place) for place in NORM_PLACES if getattr(sublayer, place)]
    own = [name for name in sublayer.parameters if not any(name.startswith(f"{norm}.") for norm in norms)]
    return _common(own) or sublayer.name or sublayer.block or "the model"


def _common(parameters: Sequence[str]) -> str:
    """The innermost module that holds all of some parameters."""
    paths = [name.split(".")[:-1] for name in parameters]
    shared = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared)


def _rms(x: Tensor) -> float:
    return float(x.double().square().mean().sqrt()) if x.numel() else 0.0


def _rms_or_none(x: Tensor | None) -> float | None:
    return None if x is None else _rms(x)


def _spread(state: Tensor) -> float:
    """`1 - |mean over tokens|^2 / mean |token|^2`: 0 where all tokens of a sequence are the same."""
    if state.ndim != 3 or state.shape[-2] < 2:
        return 1.0
    state = state.double()
    whole = state.square().sum(-1).mean(-1)
    common = state.mean(-2).square().sum(-1)
    return float((1 - common / whole.clamp_min(1e-300)).mean())
