"""The residual connection as an object: a site, a connection, a scheme.

    state = entrance(embedding)
    for block in blocks:                     # the whole body: `addnorm.stack`
        x, skip = block.connection.read(state)
        state = block.connection.write(skip, block.sublayer(x))
    hidden = exit(state)

A scheme knows nothing of the sublayers and a sublayer knows nothing of schemes.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from torch import Tensor, nn

from addnorm.choices import chosen
from addnorm.config import OptimizerRule
from addnorm.errors import UserError, unknown
from addnorm.layers.add_norm_route import NormThenAdd
from addnorm.layers.inside import Inside
from addnorm.layers.norm import EPS, NORMS, NormKind, make_norm
from addnorm.layers.route import SiteRecipe, alone
from addnorm.layers.views import Views
from addnorm.registry import SCHEMES

if TYPE_CHECKING:
    from jaxtyping import Float

State: TypeAlias = Any  # an opaque pytree of tensors: one tensor, or tuples of tensors
Kind = Literal["attention", "cross-attention", "feedforward", "parallel", "composed", "module"]
Side = Literal["encoder", "decoder"]


@dataclass(frozen=True, kw_only=True)
class Site:
    """One sublayer's place in the stack.

    Args:
        index: 0 at the entrance; counts sublayers, not layers.
        depth: sublayers in the stack.
        layer: the layer that the sublayer belongs to, 0 at the entrance.
        num_layers: layers in the stack.
        kind: what the sublayer is.
        side: which stack of an encoder-decoder this is; a lone stack is a "decoder" or an "encoder".
        other_layers: layers of the other stack of an encoder-decoder; 0 for a lone stack.
    """

    index: int
    depth: int
    layer: int
    num_layers: int
    kind: Kind = "module"
    side: Side = "decoder"
    other_layers: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.depth:
            raise UserError(f"site index {self.index} is outside a stack of {self.depth} sublayers.")
        if not 0 <= self.layer < self.num_layers:
            raise UserError(f"layer {self.layer} is outside a stack of {self.num_layers} layers.")
        if self.num_layers > self.depth:
            raise UserError(f"{self.num_layers} layers of {self.depth} sublayers: a layer needs a sublayer at least.")

    @property
    def opens_layer(self) -> bool:
        """Whether it is the first sublayer of its layer."""
        return self.index % (self.depth // self.num_layers) == 0

    @property
    def closes_layer(self) -> bool:
        """Whether it is the last sublayer of its layer."""
        return (self.index + 1) % (self.depth // self.num_layers) == 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Profile:
    """What one site did in a calibration forward.

    Args:
        site: the place.
        skip, update: what `Connection.write` is about to be given.
        before: what `Scheme.calibrate_` returned at the site before; None at the first.
    """

    site: Site
    skip: State
    update: Tensor
    before: Any


class Connection(nn.Module, ABC):
    """The learned part of a scheme at one site: an entrance to the sublayer and an exit from it.

    It never mixes tokens: every tensor has the tokens in its leading dimensions, and each token is handled alone.
    """

    @abstractmethod
    def read(self, state: State) -> tuple[Float[Tensor, "*tokens d_model"] | Views, State]:
        """The sublayer's input, and the skip: whatever must survive until `write`.

        An attention may be given three inputs, one each for queries, keys and values.

        Args:
            state: what the entrance or the site before has left: a tensor `(*tokens, d_model)` or
                `(*tokens, streams, d_model)`, or a record of tensors, as the scheme has it.
        """

    @abstractmethod
    def write(self, skip: State, update: Float[Tensor, "*tokens d_model"]) -> State:
        """Merge the sublayer's output into what was skipped.

        Args:
            skip: what `read` gave beside the sublayer's input.
            update: the sublayer's output.

        Returns:
            The state of the next site, of the form that `read` takes.
        """

    def fused(self) -> SiteRecipe | None:
        """What a kernel is told of the site, if one does the same as `read` and `write`; by default there is none."""
        return None


class Exit(nn.Module):
    """From any state to the hidden vector: `norm(collapse(state))`.

    `collapse` reduces the state to one vector a token; the base class expects a state of one stream.

    Args:
        d_model: the width.
        norm: the final norm; "none" where vectors are normalised already.
        eps: of the norm.
    """

    def __init__(self, d_model: int, norm: NormKind, eps: float = EPS) -> None:
        super().__init__()
        self.norm = make_norm(norm, d_model, eps)

    def collapse(self, state: State) -> Float[Tensor, "*tokens d_model"]:
        """One vector a token, before the final norm.

        Args:
            state: of the entrance or of any site, as in `Connection.read`.
        """
        return state

    def normed(self, x: Float[Tensor, "*tokens d_model"], state: State) -> Float[Tensor, "*tokens d_model"]:
        """The final norm of what `collapse` makes of a state, or of something of its size.

        Args:
            x: that vector of each token.
            state: where it is from; a norm may depend on it.
        """
        return self.norm(x)

    def fused(self) -> SiteRecipe | None:
        """What a kernel is told of the exit, which reads as a site does."""
        return NormThenAdd(norm=self.norm)

    def forward(self, state: State) -> Float[Tensor, "*tokens d_model"]:
        """The hidden vector that a head reads.

        Args:
            state: of the entrance or of any site, as in `Connection.read`.
        """
        route = alone(self, state)
        return self.normed(self.collapse(state), state) if route is None else route.enter(state)


@dataclass(frozen=True, kw_only=True)
class Scheme(ABC):
    """A rule for residual connections; its fields are its hyper-parameters and it holds no tensor.

    Args:
        norm: the normalisation that the scheme places; one of `addnorm.layers.norm.NORMS`.
    """

    norm: NormKind = "layer"

    # The path of one sublayer, for the drawings: words of `addnorm.reports.diagrams`. A scheme that says nothing of its
    # own path is drawn as what all have in common.
    diagram: ClassVar[str] = "fork sublayer add"

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__repr__" not in vars(cls):  # else each dataclass would get a long one of its own
            cls.__repr__ = Scheme.__repr__

    def __repr__(self) -> str:
        """As it would be written: fields at their defaults are left out."""
        return f"{type(self).__name__}({', '.join(chosen(self))})"

    def _repr_html_(self) -> str:
        """The scheme in a notebook: its drawing, its equation, its source."""
        # By name, on first use: pictures stand far above the contract, and nothing here may need them.
        return importlib.import_module("addnorm.reports.scheme_card").scheme_card(self)

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise unknown("norm", str(self.norm), NORMS)

    @abstractmethod
    def connection(self, d_model: int, site: Site) -> Connection:
        """The learned connection of one site.

        Args:
            d_model: the width.
            site: which sublayer of the stack.

        Raises:
            UserError: the scheme cannot stand at such a site.
        """

    def entrance(self, d_model: int) -> nn.Module:
        """From the embedding `(*tokens, d_model)` to the first state.

        Args:
            d_model: the width.
        """
        return nn.Identity()

    def exit(self, d_model: int) -> Exit:
        """From ANY intermediate state to the hidden vector; holds the final norm.

        Args:
            d_model: the width.
        """
        return Exit(d_model, self.norm)

    def inside(self, site: Site) -> Inside:
        """What the scheme asks for within the sublayers of a site; by default nothing.

        Args:
            site: which sublayer of the stack.
        """
        return Inside()

    def init_sublayer_(self, value_path: Sequence[nn.Linear], site: Site) -> None:
        """Rescale a fresh sublayer in place; by default leave it as it is.

        Args:
            value_path: its linears from input to output projection, in order; never parameter names.
            site: its place.
        """
        return

    def init_matrices_(self, weights: Sequence[Tensor], site: Site) -> None:
        """Rescale all matrices of a fresh sublayer in place, queries and keys too; by default leave them as they are.

        Args:
            weights: those on the value path among them.
            site: its place.
        """
        return

    @property
    def exact_gradient(self) -> bool:
        """False where reading or writing stops a gradient on purpose."""
        return True

    @property
    def needs_calibration(self) -> bool:
        """Whether fresh connections must see a batch (`Stack.calibrate_`) before anything else."""
        return False

    def calibrate_(self, connection: Connection, profile: Profile) -> Any:
        """Set what depends on data in a fresh connection; the result is handed to the next site.

        Args:
            connection: of the site, set in place.
            profile: what the site did with a batch.
        """
        return

    @property
    def constrains_weights(self) -> bool:
        """Whether weights are kept in a set (`after_step_`)."""
        return False

    def after_step_(self, site: Site | None, rows: Sequence[Tensor], columns: Sequence[Tensor]) -> None:
        """Bring weights back to where the scheme wants them: after initialisation and after every optimizer step.

        Args:
            site: of the sublayer that has the weights; None for the tables of the embedding and the head.
            rows: weights whose rows are vectors of the stream: input projections, tables.
            columns: weights whose columns are: output projections.
        """
        return

    def logits(self, d_model: int, vocab_size: int) -> nn.Module:
        """What a language model's logits go through; by default nothing.

        Args:
            d_model: the width.
            vocab_size: how many logits there are.
        """
        return nn.Identity()

    def optimizer_rule(self, site: Site | None, own: str | None = None) -> OptimizerRule:
        """How the optimizer should treat some parameters; by default like any others.

        Args:
            site: of a sublayer and its connection; None for all else: embedding, head, entrance, exit.
            own: the name of a parameter of the scheme: within the connection where there is a site, else
                "entrance.NAME" or "exit.NAME"; None for all that are not the scheme's.
        """
        return OptimizerRule()

    def starts_as(self) -> Scheme | None:
        """The scheme that computes the same function, in value and in gradient, before training; None if none does.

        With the eps that the norms really have, at any size of the stream.
        """
        return None


def scheme_of(given: Scheme | str) -> Scheme:
    """A scheme from itself, or from its text as `addnorm.schemes.parse` reads it.

    Raises:
        UserError: it is neither; a class is none of its objects.
    """
    if isinstance(given, Scheme):
        return given
    if isinstance(given, str):
        return SCHEMES.parse(given)
    if isinstance(given, type) and issubclass(given, Scheme):
        raise UserError(f"{given.__name__} is a class, and a scheme is an object of it; write {given.__name__}().")
    raise UserError(f"a {type(given).__name__} is no scheme; give a text such as 'pre-norm', or an object of a scheme.")
