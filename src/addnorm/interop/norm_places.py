"""Where the norms of a scheme stand, told by what they do: so that one scheme's gains find their place under another.

At each site a scheme may have a norm of what the sublayer reads, and one of what it hands on to the next site; behind
the last site one of the hidden vectors. The gain and shift of such a norm are those of its result: twice of both is
twice of it, to the bit. What else a norm may be for, such as a router's or of a sublayer's output, has no such place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from addnorm.layers.initialise import initialise_
from addnorm.layers.norm import LayerNorm, RMSNorm
from addnorm.layers.views import views_of
from addnorm.residual import Connection, Profile, Scheme, Site, State

_TOKENS = 3


@dataclass(frozen=True, kw_only=True)
class NormAt:
    """One norm.

    Args:
        place: what its result is, and where: "read 3", "handed on 3", "hidden".
        name: its name within the stack.
        kind: LayerNorm or RMSNorm.
    """

    place: str
    name: str
    kind: type[nn.Module]


@torch.no_grad()
def norms_at(scheme: Scheme, sites: Sequence[Site], d_model: int) -> list[NormAt]:
    """The norms that have a place, found by a forward of some noise without sublayers.

    Args:
        scheme: the scheme.
        sites: of its stack.
        d_model: the width.
    """
    with torch.random.fork_rng(devices=[]):
        body = nn.ModuleDict({"entrance": scheme.entrance(d_model), "exit": scheme.exit(d_model)})
        body["blocks"] = nn.ModuleList(
            nn.ModuleDict({"connection": scheme.connection(d_model, site)}) for site in sites
        )
        initialise_(body, 0, "normal")
        noise = torch.randn(_TOKENS, d_model, generator=torch.Generator().manual_seed(0))
    return list(_found(body.eval(), noise, scheme, sites))


def _found(body: nn.ModuleDict, noise: Tensor, scheme: Scheme, sites: Sequence[Site]) -> Iterator[NormAt]:
    state, blocks, before = body["entrance"](noise), body["blocks"], None
    assert isinstance(blocks, nn.ModuleList)
    for index, block in enumerate(blocks):
        assert isinstance(block, nn.ModuleDict)
        connection = block["connection"]
        assert isinstance(connection, Connection)
        name = f"blocks.{index}.connection"
        yield from _whose_gain(f"read {index}", name, connection, _reading(connection, state))
        x, skip = connection.read(state)
        update = views_of(x).query
        if scheme.needs_calibration:
            profile = Profile(site=sites[index], skip=skip, update=update, before=before)
            before = scheme.calibrate_(connection, profile)
        yield from _whose_gain(f"handed on {index}", name, connection, _writing(connection, skip, update))
        state = connection.write(skip, update)
    last = state
    yield from _whose_gain("hidden", "exit", body["exit"], lambda: [body["exit"](last)])


def _reading(connection: Connection, state: State) -> Callable[[], list[Tensor]]:
    return lambda: list(views_of(connection.read(state)[0]))


def _writing(connection: Connection, skip: State, update: Tensor) -> Callable[[], list[Tensor]]:
    def written() -> list[Tensor]:
        state = connection.write(skip, update)
        return [state] if isinstance(state, Tensor) else []

    return written


def _whose_gain(place: str, name: str, module: nn.Module, results: Callable[[], list[Tensor]]) -> Iterator[NormAt]:
    """The norms that double a result exactly as they are doubled."""
    before = results()
    for inner, norm in module.named_modules():
        if not isinstance(norm, (LayerNorm, RMSNorm)):
            continue
        for parameter in norm.parameters():
            parameter.mul_(2)
        after = results()
        for parameter in norm.parameters():
            parameter.div_(2)
        if any(old.any() and torch.equal(new, 2 * old) for old, new in zip(before, after, strict=True)):
            yield NormAt(place=place, name=f"{name}.{inner}", kind=type(norm))
