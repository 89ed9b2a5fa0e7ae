"""Schemes made of other schemes: all is as an inner scheme has it but what the outer one says."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from addnorm.config import OptimizerRule
from addnorm.errors import UserError
from addnorm.layers.around import AroundRecipe
from addnorm.layers.inside import Inside
from addnorm.layers.norm import NormKind
from addnorm.layers.route import recipe_of
from addnorm.layers.views import Views
from addnorm.residual import Connection, Exit, Profile, Scheme, Site, State
from addnorm.schemes.pre_norm import PreNorm

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True, kw_only=True)
class Composed(Scheme):
    """Other schemes, of which one decides at each site all that the outer one does not.

    Every scheme that has a scheme among its fields rests on this class: what it does not say itself, it delegates.
    """

    norm: NormKind = field(init=False, default="layer")

    drawn: ClassVar[str] = "sublayer"  # what stands in the inner scheme's drawing for the sublayer

    def __post_init__(self) -> None:
        for item in fields(self):
            if item.type in ("Scheme", Scheme) and not isinstance(getattr(self, item.name), Scheme):
                raise UserError(
                    f"{item.name}={getattr(self, item.name)} is not a scheme; write a scheme's name, with its fields "
                    "if need be."
                )
        # Derived, not chosen: they are those of the scheme that has the exit.
        object.__setattr__(self, "norm", self.at(None).norm)
        object.__setattr__(self, "diagram", self.at(None).diagram.replace("sublayer", self.drawn))
        super().__post_init__()

    @abstractmethod
    def at(self, site: Site | None) -> Scheme:
        """The scheme that decides at a site; None stands for all that is outside the layers, but for the entrance."""

    @property
    def parts(self) -> tuple[Scheme, ...]:
        """All schemes among the fields."""
        values = [getattr(self, item.name) for item in fields(self)]
        return tuple(value for value in values if isinstance(value, Scheme))

    def connection(self, d_model: int, site: Site) -> Connection:
        """As the site's scheme."""
        return self.at(site).connection(d_model, site)

    def entrance(self, d_model: int) -> nn.Module:
        """As the first of the schemes."""
        return self.parts[0].entrance(d_model)

    def exit(self, d_model: int) -> Exit:
        """As the scheme that decides outside the layers."""
        return self.at(None).exit(d_model)

    def logits(self, d_model: int, vocab_size: int) -> nn.Module:
        """As the scheme that decides outside the layers."""
        return self.at(None).logits(d_model, vocab_size)

    def inside(self, site: Site) -> Inside:
        """As the site's scheme."""
        return self.at(site).inside(site)

    def init_sublayer_(self, value_path: Sequence[nn.Linear], site: Site) -> None:
        """As the site's scheme."""
        self.at(site).init_sublayer_(value_path, site)

    def init_matrices_(self, weights: Sequence[Tensor], site: Site) -> None:
        """As the site's scheme."""
        self.at(site).init_matrices_(weights, site)

    @property
    def exact_gradient(self) -> bool:
        """If it is in all of them."""
        return all(part.exact_gradient for part in self.parts)

    @property
    def needs_calibration(self) -> bool:
        """If one of them does."""
        return any(part.needs_calibration for part in self.parts)

    def calibrate_(self, connection: Connection, profile: Profile) -> Any:
        """As the site's scheme, if it needs to."""
        scheme = self.at(profile.site)
        return scheme.calibrate_(connection, profile) if scheme.needs_calibration else None

    @property
    def constrains_weights(self) -> bool:
        """If one of them does."""
        return any(part.constrains_weights for part in self.parts)

    def after_step_(self, site: Site | None, rows: Sequence[Tensor], columns: Sequence[Tensor]) -> None:
        """As the site's scheme."""
        self.at(site).after_step_(site, rows, columns)

    def optimizer_rule(self, site: Site | None, own: str | None = None) -> OptimizerRule:
        """As the site's scheme."""
        decides = self.parts[0] if own and own.startswith("entrance.") else self.at(site)
        return decides.optimizer_rule(site, own)


@dataclass(frozen=True, kw_only=True)
class Around(Composed):
    """Another scheme, which decides all that the outer one does not.

    Args:
        inner: the scheme that is wrapped.
    """

    inner: Scheme = PreNorm()

    def at(self, site: Site | None) -> Scheme:
        """The inner scheme, everywhere."""
        return self.inner


class AroundConnection(Connection):
    """A connection around an inner one; as it stands all is as there."""

    def __init__(self, inner: Connection) -> None:
        super().__init__()
        self.inner = inner

    def inner_skip(self, skip: State) -> State:
        """What the inner connection is given of the skip."""
        return skip

    def fused_with(self, **changes: Callable[..., Any]) -> AroundRecipe | None:
        """What a kernel is told, if it knows the inner connection; what is done around it for `AroundRecipe`."""
        inner = recipe_of(self.inner)
        return None if inner is None else AroundRecipe(inner=inner, **changes)

    def read(self, state: State) -> tuple[Float[Tensor, "*tokens d_model"] | Views, State]:
        """As the inner connection."""
        return self.inner.read(state)

    def write(self, skip: State, update: Float[Tensor, "*tokens d_model"]) -> State:
        """As the inner connection."""
        return self.inner.write(self.inner_skip(skip), update)


@dataclass(frozen=True, kw_only=True)
class AroundConnections(Around):
    """Another scheme, with a connection around each of its connections."""

    @abstractmethod
    def around(self, inner: Connection, site: Site) -> AroundConnection:
        """The outer connection of a site."""

    def connection(self, d_model: int, site: Site) -> Connection:
        """The outer connection around the inner scheme's."""
        return self.around(super().connection(d_model, site), site)

    def calibrate_(self, connection: Connection, profile: Profile) -> Any:
        """As the inner scheme, of the inner connection."""
        assert isinstance(connection, AroundConnection)
        profile = replace(profile, skip=connection.inner_skip(profile.skip))
        return super().calibrate_(connection.inner, profile)

    def optimizer_rule(self, site: Site | None, own: str | None = None) -> OptimizerRule:
        """As the inner scheme; what the outer connection adds like any parameter."""
        if site is None or own is None or own.startswith("inner."):
            return super().optimizer_rule(site, own.removeprefix("inner.") if own else None)
        return OptimizerRule()
