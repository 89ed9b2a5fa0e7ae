"""A scheme for each range of layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from addnorm.checks import check_probability
from addnorm.errors import UserError
from addnorm.layers.views import views_of
from addnorm.residual import Scheme, Site, State
from addnorm.schemes._around import Composed
from addnorm.schemes.post_norm import PostNorm
from addnorm.schemes.pre_norm import PreNorm
from addnorm.stack import sites

_WIDTH = 64  # of the trial below: divisible by any number of streams in use


def in_first(share: float, site: Site) -> bool:
    """Whether a site is in the first `floor(share * L)` layers.

    >>> [in_first(0.25, site) for site in sites(16)].count(True)
    4
    """
    # 0.7 * 10 is 6.999..., and 7 layers are meant.
    return site.layer < int(share * site.num_layers + 1e-9)


@dataclass(frozen=True, kw_only=True)
class ByLayer(Composed):
    """By layer: one scheme in the first layers, another in the rest.

        x <- write_first(x, F(read_first(x)))  in layers l < floor(a * L),    x <- write_rest(x, F(read_rest(x)))  after

    The entrance is that of the first scheme, the exit that of the rest. Both must carry the same kind of state: a
    stream, as many streams, or the same record. For more ranges the rest may be `by-layer` again; its share too is of
    all layers.

    Reference: Li et al. 2024, arXiv:2412.13795 (Mix-LN, which is the default).
    Cost: that of the two schemes, by their share.

    Args:
        first: the scheme of the first layers.
        share: a, the share of the layers that follow it.
        rest: the scheme of all other layers.
    """

    first: Scheme = PostNorm()
    share: float = 0.25
    rest: Scheme = PreNorm()

    diagram: ClassVar[str] = "fork box:n sublayer add"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_probability("share", self.share)
        one, two = _form(self.first), _form(self.rest)
        if one != two:
            raise UserError(
                f"first and rest must carry the same state: {type(self.first).__name__} carries {one}, "
                f"{type(self.rest).__name__} {two}; take two schemes with as many streams."
            )

    def at(self, site: Site | None) -> Scheme:
        """That of the layer; outside of the layers that of the rest."""
        return self.first if site is not None and in_first(self.share, site) else self.rest

    def starts_as(self) -> Scheme | None:
        """The one scheme that both are."""
        return self.rest if self.first == self.rest else None


def _form(scheme: Scheme) -> str:
    """What a scheme's state is before and after a layer of two sublayers, as text; computed without memory."""
    with torch.device("meta"), torch.no_grad():
        state = scheme.entrance(_WIDTH)(torch.empty(1, _WIDTH))
        forms = [_described(state)]
        for site in sites(2):
            x, skip = (connection := scheme.connection(_WIDTH, site)).read(state)
            state = connection.write(skip, views_of(x).query)
            if site.closes_layer:  # within a layer schemes do not change
                forms.append(_described(state))
    return ", then ".join(dict.fromkeys(forms))


def _described(state: State) -> str:
    """The shape of a tensor; of a record or a plain tuple all that it holds, for equal shapes may mean other things."""
    if isinstance(state, Tensor):
        return f"({', '.join(str(n) if n != _WIDTH else 'd_model' for n in state.shape[1:])})"
    name = type(state).__name__ if hasattr(state, "_fields") else ""
    return f"{name}[{', '.join(map(_described, state))}]"
