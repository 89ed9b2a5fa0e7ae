"""The stack: sublayers, each with its connection, between an entrance and an exit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from addnorm.errors import UserError
from addnorm.kernels.rebuild import rebuilding
from addnorm.layers.context import Context
from addnorm.layers.padding import current_padding, padding
from addnorm.layers.route import begin
from addnorm.layers.sublayer import built_for, stream_weights, value_paths
from addnorm.layers.views import Views
from addnorm.layers.watched import is_only
from addnorm.misuse import first_fault
from addnorm.residual import Connection, Exit, Kind, Profile, Scheme, Side, Site, State, scheme_of

if TYPE_CHECKING:
    from jaxtyping import Float


Later = Literal["later"]


class Block(nn.Module):
    """One sublayer with its connection: state to state."""

    def __init__(self, connection: Connection, sublayer: nn.Module) -> None:
        super().__init__()
        self.connection = connection
        self.sublayer = sublayer

    def forward(self, state: State, *context: Any) -> State:
        """Read, apply the sublayer, write."""
        route = begin((self.connection,), state)
        return route.leave(self.update(route.enter(state), *context))

    def update(self, x: Tensor | Views, *context: Any) -> Tensor:
        """What the sublayer makes of its input.

        Raises:
            UserError: its shape is not the input's.
        """
        update = self.sublayer(x, *context)
        # A last dimension of 1 would be added without complaint.
        first = x.query if isinstance(x, Views) else x
        if isinstance(first, Tensor) and getattr(update, "shape", None) != first.shape:
            raise _wrong_update(self.sublayer, first, update)
        return update


def sites(
    depth: int,
    sublayers_per_layer: int = 2,
    kinds: Sequence[Kind] = ("module",),
    *,
    side: Side = "decoder",
    other_layers: int = 0,
) -> list[Site]:
    """The sites of a stack.

    Args:
        depth: how many sublayers it has.
        sublayers_per_layer: how many of them make a layer; where they do not divide the depth, one.
        kinds: what they are, from the first of a layer on.
        side, other_layers: as in `Site`.

    Raises:
        UserError: there is no sublayer.

    >>> [site.layer for site in sites(4)]
    [0, 0, 1, 1]
    """
    if depth < 1 or sublayers_per_layer < 1:
        raise UserError(f"{depth} sublayers, {sublayers_per_layer} to a layer: that stack is empty; give at least 1.")
    if depth % sublayers_per_layer:
        sublayers_per_layer = 1
    last = Site(
        index=depth - 1,
        depth=depth,
        layer=(depth - 1) // sublayers_per_layer,
        num_layers=depth // sublayers_per_layer,
        side=side,
        other_layers=other_layers,
    )
    return [replace(last, index=i, layer=i // sublayers_per_layer, kind=kinds[i % len(kinds)]) for i in range(depth)]


class Stack(nn.Module):
    """Any sublayers under any scheme: entrance, blocks, exit.

    Args:
        scheme: the rule for the residual connections, or its text.
        sublayers: modules that map `(..., d_model)` to `(..., d_model)`. Whatever `forward` gets after the embedding
            is handed to each of them. A sublayer with a method `value_paths()` (lists of linears from input to
            output projection) is rescaled as the scheme asks. A scheme that asks for something within them
            (`Scheme.inside`) needs those of `addnorm.layers`, built for it.
        d_model: the width.
        sites: each sublayer's place; by default two sublayers make a layer.
        calibration: for a scheme that sets initial values from data, a typical batch of embeddings; "later" if
            `calibrate_` is called or weights are loaded before the first forward.

    Raises:
        UserError: a sublayer is not built for the scheme, or the scheme needs a calibration and none came.

    Examples:
        >>> import torch, addnorm
        >>> sublayers = [nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 8)) for _ in range(4)]
        >>> stack = addnorm.Stack(addnorm.schemes.get("pre-norm")(), sublayers, d_model=8)
        >>> stack(torch.randn(2, 5, 8)).shape
        torch.Size([2, 5, 8])
    """

    def __init__(
        self,
        scheme: Scheme | str,
        sublayers: Iterable[nn.Module],
        d_model: int,
        sites: Sequence[Site] | None = None,
        *,
        calibration: Tensor | Later | None = None,
    ) -> None:
        super().__init__()
        scheme = scheme_of(scheme)
        check_calibration(scheme, calibration, "a batch of embeddings")
        sublayers = list(sublayers)
        places = _sites_of(sublayers, sites)
        self.passes = _check_inside(scheme, sublayers, places)
        self.scheme, self.d_model = scheme, d_model
        self.entrance = scheme.entrance(d_model)
        self.blocks = nn.ModuleList(
            Block(_connection(scheme, d_model, site), sublayer)
            for site, sublayer in zip(places, sublayers, strict=True)
        )
        self.exit = scheme.exit(d_model)
        self.sites = places
        self.checkpointing = self.rebuilding = False
        self.rescale_()
        if isinstance(calibration, Tensor):
            self.calibrate_(calibration)

    def rescale_(self) -> None:
        """Let the scheme rescale the sublayers' fresh weights; once after every fresh initialisation."""
        rescaled: set[tuple[str, int]] = set()  # a sublayer that stands at several sites is rescaled at the first

        def fresh(part: str, first: Tensor) -> bool:
            seen = (part, id(first)) in rescaled
            rescaled.add((part, id(first)))
            return not (seen or first.is_meta)

        for site, block in zip(self.sites, self.blocks, strict=True):
            assert isinstance(block, Block)
            for value_path in value_paths(block.sublayer):
                if fresh("value path", value_path[0].weight):
                    self.scheme.init_sublayer_(value_path, site)
            weights = [weight for group in stream_weights(block.sublayer) for weight in group]
            if weights and fresh("all", weights[0]):
                self.scheme.init_matrices_(weights, site)

    @torch.no_grad()
    def after_step_(self, tables: Sequence[Tensor] = ()) -> None:
        """Let the scheme bring weights back to where it wants them, after every step of an optimizer.

        Args:
            tables: weights outside the stack whose rows are vectors of the stream: of the embedding, of the head.
        """
        if not self.scheme.constrains_weights:
            return
        self.scheme.after_step_(None, [table for table in tables if not table.is_meta], [])
        for site, block in zip(self.sites, self.blocks, strict=True):
            assert isinstance(block, Block)
            groups = stream_weights(block.sublayer)
            rows, columns = ([weight for weight in group if not weight.is_meta] for group in groups)
            self.scheme.after_step_(site, rows, columns)

    @torch.no_grad()
    def calibrate_(self, embedding: Float[Tensor, "*tokens d_model"], *context: Any) -> None:
        """Let the scheme set what depends on data, from one batch, site after site; without dropout.

        Args:
            embedding: a typical batch.
            context: what `forward` would be given after it.
        """
        if not self.scheme.needs_calibration or any(p.is_meta for p in self.parameters()):
            return
        training, before, state = self.training, None, self.entrance(embedding)
        context = self._surroundings(context)
        self.eval()
        for site, block in zip(self.sites, self.blocks, strict=True):
            assert isinstance(block, Block)
            x, skip = block.connection.read(state)
            update = block.sublayer(x, *context)
            profile = Profile(site=site, skip=skip, update=update, before=before)
            before = self.scheme.calibrate_(block.connection, profile)
            state = block.connection.write(skip, update)
        self.train(training)

    def forward(self, embedding: Float[Tensor, "*tokens d_model"], *context: Any) -> Float[Tensor, "*tokens d_model"]:
        """The hidden vectors, after the exit's norm.

        Args:
            embedding: the vectors of the tokens, in any floating-point precision.
            context: goes to every sublayer after its input, as it came.

        Raises:
            UserError: a connection or a sublayer does not keep its contract.
        """
        try:
            with self.remembering():
                hidden = self._run(embedding, context)
        except UserError:
            raise
        except (RuntimeError, TypeError, ValueError, AttributeError, IndexError) as error:
            fault = self._fault(embedding, context)
            if fault is None:
                raise
            raise UserError(fault) from error
        if hidden.shape != embedding.shape:  # two rows of one tensor pass for a pair
            said = (
                f"{type(self.scheme).__name__} made shape {tuple(hidden.shape)} of {tuple(embedding.shape)}; keep it."
            )
            raise UserError(self._fault(embedding, context) or said)
        return hidden

    def _fault(self, embedding: Tensor, context: tuple[Any, ...]) -> str | None:
        parts = [(block.connection, block.sublayer) for block in self.blocks if isinstance(block, Block)]
        return first_fault(self.entrance, parts, embedding, self.d_model, self._surroundings(context))

    def remembering(self) -> AbstractContextManager[None]:
        """Within it, backward is left as little as the stack is asked to leave; for what reads the hidden vectors."""
        return rebuilding() if self.rebuilding else nullcontext()

    def _run(self, embedding: Tensor, context: tuple[Any, ...]) -> Tensor:
        state, context = self.entrance(embedding), self._surroundings(context)
        blocks: list[Any] = [*self.blocks]
        readers, place = self._readers(blocks), 0
        while place < len(blocks):
            if readers[place] is None:
                block = blocks[place]
                state = _recomputed(block, state, context) if self.checkpointing else block(state, *context)
                place += 1
                continue
            route = begin(readers[place:], state)
            x = route.enter(state)
            while True:
                update = blocks[place].update(x, *context)
                place += 1
                if (x := route.follow(update)) is None:
                    state = route.leave(update)
                    break
                if place == len(blocks):
                    return x  # what the exit reads
        return self.exit(state)

    def _readers(self, blocks: list[Any]) -> list[Connection | Exit | None]:
        """Each connection, and the exit; None for what somebody watches, compiles or repeats."""
        if self.checkpointing or torch.compiler.is_compiling():
            return [None] * len(blocks)
        found = [block.connection if is_only(block, Block) else None for block in blocks]
        return [*found, self.exit if is_only(self.exit, type(self.exit)) else None]

    def _surroundings(self, context: tuple[Any, ...]) -> tuple[Any, ...]:
        """What came, or a context for what sublayers pass to each other."""
        return context or ((Context(),) if self.passes else ())


def check_calibration(scheme: Scheme, given: Any, wanted: str) -> None:
    """Refuse a scheme that needs a calibration where none is given; without memory there is nothing to calibrate.

    Args:
        scheme: the scheme.
        given: what came: a batch, "later", or None.
        wanted: what a batch would be, in words.

    Raises:
        UserError: the scheme needs one and none came, or a word that is not "later".
    """
    if isinstance(given, str) and given != "later":
        raise UserError(f"calibration='{given}' is not allowed; give {wanted}, or 'later'.")
    if given is None and scheme.needs_calibration and not torch.empty(0).is_meta:
        raise UserError(
            f"{scheme!r} sets initial values from a batch and none came; pass calibration={wanted}, or "
            "calibration='later' if you load weights or call calibrate_ before the first forward, or take a form "
            "that needs no batch, such as admin(growth=log)."
        )


def _connection(scheme: Scheme, d_model: int, site: Site) -> Connection:
    made = scheme.connection(d_model, site)
    if not isinstance(made, Connection):
        raise UserError(
            f"{type(scheme).__name__}.connection made a {type(made).__name__}; "
            "return an object of a class that derives from addnorm.Connection."
        )
    return made


def _sites_of(sublayers: list[nn.Module], given: Sequence[Site] | None) -> list[Site]:
    places = list(given) if given is not None else sites(len(sublayers))
    if len(places) != len(sublayers):
        raise UserError(f"{len(places)} sites came for {len(sublayers)} sublayers; give one site a sublayer.")
    return places


def _check_inside(scheme: Scheme, sublayers: list[nn.Module], places: list[Site]) -> bool:
    """Whether sublayers pass something to later ones.

    Raises:
        UserError: one is not built for what the scheme asks for within it, or takes what none before it gives.
    """
    given: frozenset[str] = frozenset()
    for site, sublayer in zip(places, sublayers, strict=True):
        asked = scheme.inside(site).of_kind(site.kind)
        if asked != built_for(sublayer).of_kind(site.kind):
            raise UserError(
                f"sublayer {site.index} ({type(sublayer).__name__}) is not built for what {type(scheme).__name__} asks "
                "for within it; hand inside=scheme.inside(site) to addnorm's FeedForward and AttentionOptions, "
                "or take a model of addnorm, which does so."
            )
        if asked.takes - given:
            raise UserError(
                f"the attention at sublayer {site.index} needs {' and '.join(sorted(asked.takes - given))}, and none "
                f"before it leaves them; let {type(scheme).__name__} begin in the first layer."
            )
        given |= asked.gives
    return bool(given)


def _wrong_update(sublayer: nn.Module, x: Tensor, update: Any) -> UserError:
    came = f"shape {tuple(update.shape)}" if isinstance(update, Tensor) else f"a {type(update).__name__}"
    return UserError(
        f"sublayer {type(sublayer).__name__} read shape {tuple(x.shape)} and returned {came}; "
        "it must return one tensor of the shape it reads."
    )


def _recomputed(block: nn.Module, state: State, context: tuple[Any, ...]) -> State:
    """The block's output; its inner activations are recomputed in backward, under the padding of this forward.

    The recomputation finds what earlier sublayers had passed on, not what later ones made of it.
    """
    keep = current_padding()
    found = [(each, each.passed_so_far()) for each in context if isinstance(each, Context)]

    def surroundings() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), padding(keep, again=True)

    def run(state: State) -> State:
        for each, passed in found:
            each.rewind(passed)
        return block(state, *context)

    return checkpoint(run, state, use_reentrant=False, context_fn=surroundings)
