"""A scheme for each range of layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from addnorm.checks import check_probability
from addnorm.config import OptimizerRule
from addnorm.errors import UserError
from addnorm.layers.inside import Inside
from addnorm.layers.norm import NormKind
from addnorm.layers.views import views_of
from addnorm.residual import Connection, Exit, Profile, Scheme, Site
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
class ByLayer(Scheme):
    """By layer: one scheme in the first layers, another in the rest.

        x <- write_first(x, F(read_first(x)))  in layers l < floor(a * L),    x <- write_rest(x, F(read_rest(x)))  after

    The entrance is that of the first scheme, the exit that of the rest. Both must carry the same kind of state: a
    stream, or as many streams. For more ranges the rest may be `by-layer` again; its share too is of all layers.

    Reference: Li et al. 2024, arXiv:2412.13795 (Mix-LN, which is the default).
    Cost: that of the two schemes, by their share.

    Args:
        first: the scheme of the first layers.
        share: a, the share of the layers that follow it.
        rest: the scheme of all other layers.
    """

    norm: NormKind = field(init=False, default="layer")
    first: Scheme = PostNorm()
    share: float = 0.25
    rest: Scheme = PreNorm()

    diagram: ClassVar[str] = "fork box:n sublayer add"

    def __post_init__(self) -> None:
        for name in ("first", "rest"):
            if not isinstance(getattr(self, name), Scheme):
                raise UserError(f"{name}={getattr(self, name)} is not a scheme; write a scheme's name.")
        check_probability("share", self.share)
        # Derived, not chosen: the final norm and the drawing are those of the rest.
        object.__setattr__(self, "norm", self.rest.norm)
        object.__setattr__(self, "diagram", self.rest.diagram)
        super().__post_init__()
        one, two = _form(self.first), _form(self.rest)
        if one != two:
            raise UserError(
                f"first and rest must carry the same state: {type(self.first).__name__} carries {one}, "
                f"{type(self.rest).__name__} {two}; take two schemes with as many streams."
            )

    @property
    def needs_calibration(self) -> bool:
        """If one of the two does."""
        return self.first.needs_calibration or self.rest.needs_calibration

    def connection(self, d_model: int, site: Site) -> Connection:
        """That of the layer's scheme."""
        return self._at(site).connection(d_model, site)

    def entrance(self, d_model: int) -> nn.Module:
        """Of the first layers' scheme."""
        return self.first.entrance(d_model)

    def exit(self, d_model: int) -> Exit:
        """Of the last layers' scheme."""
        return self.rest.exit(d_model)

    def inside(self, site: Site) -> Inside:
        """As the layer's scheme asks."""
        return self._at(site).inside(site)

    @property
    def constrains_weights(self) -> bool:
        """If one of the two does."""
        return self.first.constrains_weights or self.rest.constrains_weights

    def after_step_(self, site: Site | None, rows: Sequence[Tensor], columns: Sequence[Tensor]) -> None:
        """As the layer's scheme; for tables as the rest."""
        (self.rest if site is None else self._at(site)).after_step_(site, rows, columns)

    def logits(self, d_model: int, vocab_size: int) -> nn.Module:
        """Of the last layers' scheme."""
        return self.rest.logits(d_model, vocab_size)

    def init_sublayer_(self, value_path: Sequence[nn.Linear], site: Site) -> None:
        """As the layer's scheme does."""
        self._at(site).init_sublayer_(value_path, site)

    def calibrate_(self, connection: Connection, profile: Profile) -> Any:
        """As the layer's scheme does, if it needs to."""
        scheme = self._at(profile.site)
        return scheme.calibrate_(connection, profile) if scheme.needs_calibration else None

    def optimizer_rule(self, site: Site | None, own: str | None = None) -> OptimizerRule:
        """That of the layer's scheme; outside the layers that of the rest."""
        return (self.rest if site is None else self._at(site)).optimizer_rule(site, own)

    def _at(self, site: Site) -> Scheme:
        return self.first if in_first(self.share, site) else self.rest


def _form(scheme: Scheme) -> str:
    """The shapes in a scheme's state before and after two sublayers, as text; computed without memory."""
    with torch.device("meta"), torch.no_grad():
        state = scheme.entrance(_WIDTH)(torch.empty(1, _WIDTH))
        forms = [_shapes(state)]
        for site in sites(2):
            x, skip = (connection := scheme.connection(_WIDTH, site)).read(state)
            state = connection.write(skip, views_of(x).query)
            forms.append(_shapes(state))
    return ", then ".join(dict.fromkeys(forms))


def _shapes(state: Any) -> str:
    leaves, _ = tree_flatten(state)
    shapes = [
        [str(n) if n != _WIDTH else "d_model" for n in leaf.shape[1:]] for leaf in leaves if isinstance(leaf, Tensor)
    ]
    return " and ".join(f"({', '.join(shape)})" for shape in shapes)
