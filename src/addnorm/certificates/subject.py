"""What a certificate is asked for: a scheme, one connection, or a module that maps vectors to vectors."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from addnorm import schemes
from addnorm.certificates.called import Called
from addnorm.errors import UserError
from addnorm.layers.cache import KVCache
from addnorm.layers.context import Context
from addnorm.layers.initialise import InitRule
from addnorm.models.decoder import Transformer
from addnorm.residual import Connection, Scheme, State
from addnorm.schemes.pre_norm import PreNorm
from addnorm.stack import Block, Stack, sites

WIDTH, BATCH, TOKENS = 16, 3, 6
VOCABULARY = 11  # of the model that a stack is taken from; its embedding and its head are not looked at


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """One of the three kinds; `scheme` is None for a module, and gives a connection its entrance and its exit.

    Args:
        text: how it is called.
        scheme: builds the stack.
        connection: stands at every site instead of the scheme's.
        module: runs as it is.
        d_model: the only width that it takes; None = any.
        causal: whether no token may see a later one.
    """

    text: str
    scheme: Scheme | None = None
    connection: Connection | None = None
    module: nn.Module | None = None
    d_model: int | None = None
    causal: bool = True

    @property
    def in_catalogue(self) -> bool:
        """Whether it is a scheme of the catalogue, unchanged."""
        return self.connection is None and self.scheme is not None and in_catalogue(self.scheme)

    def width(self, wanted: int = WIDTH) -> int:
        """The wanted width, or the only one that there is."""
        return self.d_model or wanted

    def stack(self, num_layers: int = 2, wanted: int = WIDTH, init: InitRule = "xavier") -> Stack:
        """A fresh stack of attention and feed-forward, float32, in evaluation."""
        assert self.scheme is not None
        d_model = self.width(wanted)
        shape: dict[str, Any] = {"vocab_size": VOCABULARY, "num_layers": num_layers} | _shape(self.scheme, d_model)
        batch = torch.arange(BATCH * TOKENS).reshape(BATCH, TOKENS) % VOCABULARY
        model = Transformer(self.scheme, calibration=batch, init=init, **shape)
        if self.connection is not None:
            for block in model.stack.blocks:
                block.connection = copy.deepcopy(self.connection).to(torch.float32)
        return model.stack.eval()

    def body(self, num_layers: int = 2, init: InitRule = "xavier") -> Body:
        """What runs, in float64 and evaluation; a module is copied as it is."""
        module = self.stack(num_layers, init=init) if self.module is None else copy.deepcopy(self.module)
        return Body(module=module.double().eval(), d_model=self.width())


@dataclass(frozen=True, kw_only=True, eq=False)
class Body:
    """A module of vectors, `(batch, tokens, d_model)` to the same, and how it is called."""

    module: nn.Module
    d_model: int

    @property
    def takes_context(self) -> bool:
        """A stack of addnorm's attention must be told that it is causal."""
        parts = self.module.modules() if isinstance(self.module, Stack) else ()
        return any(type(part).__module__.startswith("addnorm.layers.attention") for part in parts)

    def __call__(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        """The output."""
        if not self.takes_context:
            return self.module(x)
        return self.module(x, surroundings(x, cache))

    def states(self, x: Tensor, context: Context) -> list[State]:
        """Of a stack: the state at the entrance and after each sublayer."""
        assert isinstance(self.module, Stack)
        found = [self.module.entrance(x)]
        for block in self.module.blocks:
            found.append(block(found[-1], context))
        return found


def surroundings(x: Tensor, cache: KVCache | None = None) -> Context:
    """What each sublayer is given beside the tokens; positions go on where the cache ends."""
    past = 0 if cache is None else cache.tokens
    return Context(causal=True, positions=torch.arange(past, past + x.shape[-2]), cache=cache)


def subject_of(
    target: Any, against: Scheme | None, d_model: int | None, example: Any = None, causal: bool = True
) -> Subject:
    """What the user handed in.

    Raises:
        UserError: it is none of the kinds, or does not run.
    """
    if isinstance(target, str):
        target = schemes.parse(target)
    if isinstance(target, Scheme):
        return Subject(text=schemes.format(target), scheme=target, d_model=d_model)
    if isinstance(target, Connection):
        ends = against or catalogue_scheme_of(target) or PreNorm()
        width = d_model or _width(target, _trial_of_connection(target, ends), "against=SCHEME, the scheme it is of")
        return Subject(text=type(target).__name__, scheme=ends, connection=target, d_model=width)
    if isinstance(target, nn.Module):
        text = type(target).__name__
        if example is not None:
            called = Called(target, example)
            return Subject(text=text, module=called, d_model=called.width(), causal=causal)
        module = target.stack if isinstance(target, Transformer) else target
        width = d_model or _width(module, _trial_of_module(module), "d_model=WIDTH, or example= what it is called with")
        return Subject(text=text, module=module, d_model=width, causal=causal)
    raise UserError(
        f"{target!r} cannot be certified; give a scheme (its text or an object), a Connection, "
        "or a module that maps (batch, tokens, d_model) to the same shape."
    )


def in_catalogue(scheme: Scheme) -> bool:
    """Whether a scheme's class is one of the catalogue's."""
    return schemes.name_of(scheme) in schemes.REGISTRY.own


def catalogue_scheme_of(target: Any) -> Scheme | None:
    """The catalogue's scheme that the target is meant to be: which it derives from, or whose name it has.

    A derived scheme keeps its fields. A connection's are those of its attribute `scheme`, if it has one.
    """
    if isinstance(target, Connection) and isinstance(getattr(target, "scheme", None), Scheme):
        return catalogue_scheme_of(target.scheme)
    homes = [base.__module__.rpartition("addnorm.schemes.")[2].replace("_", "-") for base in type(target).__mro__]
    named = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", type(target).__name__).lower()
    name = next(
        (name for name in (*homes, named, named.removesuffix("-connection")) if name in schemes.REGISTRY.own), None
    )
    if name is None:
        return None
    scheme = schemes.get(name)
    if not isinstance(target, scheme):
        return scheme()
    return scheme(**{part.name: getattr(target, part.name) for part in fields(scheme) if part.init})


def _shape(scheme: Scheme, d_model: int) -> dict[str, Any]:
    """The shape of the body that fits a scheme and a width."""
    heads = 2 if d_model % 4 == 0 else 1
    shape: dict[str, Any] = {"d_model": d_model, "num_heads": heads}
    if d_model // heads % 2:
        shape["position"] = "none"
    if any(scheme.inside(site).scores is not None for site in sites(4)):
        shape["attention"] = "plain"
    return shape


def _trial_of_module(module: nn.Module) -> Any:
    def trial(width: int) -> bool:
        body = Body(module=copy.deepcopy(module).double().eval(), d_model=width)
        x = torch.zeros(1, 4, width, dtype=torch.float64)
        return getattr(body(x), "shape", None) == x.shape

    return trial


def _trial_of_connection(connection: Connection, ends: Scheme) -> Any:
    def trial(width: int) -> bool:
        x = torch.zeros(1, 4, width)
        state = Block(copy.deepcopy(connection).float(), nn.Identity())(ends.entrance(width)(x))
        return ends.exit(width)(state).shape == x.shape

    return trial


def _width(module: nn.Module, trial: Any, remedy: str) -> int:
    """The largest width that appears in the parameters' shapes and that the module runs with.

    Raises:
        UserError: with none.
    """
    widths = sorted({size for parameter in module.parameters() for size in parameter.shape if size > 1}, reverse=True)
    last = ""
    for width in [*widths, WIDTH]:
        try:
            with torch.no_grad():
                if trial(width):
                    return width
        except Exception as error:  # anybody's module may fail in any way with a width that is not its own
            last = f" ({type(error).__name__}: {error})"
    raise UserError(
        f"{type(module).__name__} runs with no width out of {[*widths, WIDTH]}{last}; give {remedy}, "
        "or something that maps (batch, tokens, d_model) to the same shape."
    )
