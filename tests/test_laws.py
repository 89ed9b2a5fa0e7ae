"""The laws can fail: each catches the faults it is there for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException
from torch.autograd.gradcheck import GradcheckError

from addnorm import schemes
from addnorm.errors import UserError
from addnorm.kernels.rebuild import rebuildable
from addnorm.residual import Connection, Scheme, Site
from addnorm.schemes.pre_norm import PreNormConnection
from addnorm.testing import laws, laws_of_form, laws_of_numbers

Norm = Any


class WantsABatch(PreNormConnection):
    def write(self, skip: Tensor, update: Tensor) -> Tensor:
        return skip + update if skip.dim() == 3 else (skip + update)[None]


class MixesTokens(PreNormConnection):
    def read(self, state: Tensor) -> tuple[Tensor, Tensor]:
        return self.norm(state) - state.mean(-2, keepdim=True), state


class MixesRows(PreNormConnection):
    def write(self, skip: Tensor, update: Tensor) -> Tensor:
        return skip + update - update.mean(0)


class CountsTokens(PreNormConnection):
    def write(self, skip: Tensor, update: Tensor) -> Tensor:
        return skip + update / torch.arange(1, update.shape[-2] + 1)[:, None]


class RebuildsAnother(PreNormConnection):
    def read(self, state: Tensor) -> tuple[Tensor, Tensor]:
        return rebuildable(self.norm(state) * 2, lambda: self.norm(state.detach()) * 3), state


class HasADeadParameter(PreNormConnection):
    def __init__(self, d_model: int, norm: Norm) -> None:
        super().__init__(d_model, norm)
        self.dead = nn.Parameter(torch.zeros(1))

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.dead)

    def write(self, skip: Tensor, update: Tensor) -> Tensor:
        return skip + update + self.dead * 0


class IsNeverFilled(HasADeadParameter):
    reset_parameters = None


class Detaches(PreNormConnection):
    def write(self, skip: Tensor, update: Tensor) -> Tensor:
        return skip * skip.square().mean(-1, keepdim=True).detach() + update


class Remembers(PreNormConnection):
    calls = 0

    def read(self, state: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        return self.norm(state) * self.calls, state


class IsHalf(PreNormConnection):
    def write(self, skip: Tensor, update: Tensor) -> Tensor:
        return skip + 0.5 * update


class NormalisesAFraction(PreNormConnection):
    """All that is left of the fraction behind the norm is its eps, which weighs 16 times as much."""

    def read(self, state: Tensor) -> tuple[Tensor, Tensor]:
        return self.norm(state / 4), state


class WidensItsState(PreNormConnection):
    def read(self, state: Tensor) -> tuple[Tensor, Tensor]:
        return self.norm(state.to(self.norm.weight.dtype)), state

    def write(self, skip: Tensor, update: Tensor) -> Tensor:
        return skip.float() + update


class MixesByMatrix(PreNormConnection):
    def __init__(self, d_model: int, norm: Norm) -> None:
        super().__init__(d_model, norm)
        self.mix = nn.Linear(d_model, d_model)

    def write(self, skip: Tensor, update: Tensor) -> Tensor:
        return self.mix(skip) + update


class ReadsTheNumbers(PreNormConnection):
    def write(self, skip: Tensor, update: Tensor) -> Tensor:
        return skip + update if float(update.detach().sum()) > 0 else skip + 2 * update


class DividesByALength(PreNormConnection):
    def read(self, state: Tensor) -> tuple[Tensor, Tensor]:
        return self.norm(state / state.norm(dim=-1, keepdim=True)), state


class AddsUpInBfloat16(PreNormConnection):
    """As torch's own LayerNorm does the gradients of gain and shift."""

    def read(self, state: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast("cpu", enabled=False):
            x, gain, shift = (one.bfloat16() for one in (state, self.norm.weight, self.norm.bias))
            return F.layer_norm(x, x.shape[-1:], gain, shift).to(state.dtype), state


class SeesTheProbe(PreNormConnection):
    def write(self, skip: Tensor, update: Tensor) -> Tensor:
        return skip + update * (2 if skip._is_view() else 1)


@dataclass(frozen=True, kw_only=True)
class Toy(Scheme):
    """A scheme with a connection of choice."""

    faulty: type[Connection] = PreNormConnection
    diagram: ClassVar[str] = "fork box:n sublayer add"

    def connection(self, d_model: int, site: Site) -> Connection:
        return self.faulty(d_model, self.norm)

    def starts_as(self) -> Scheme:
        return schemes.get("pre-norm")()


class Numbered(PreNormConnection):
    def __init__(self, d_model: int, norm: Norm, index: int) -> None:
        super().__init__(d_model, norm)
        self.index = index

    def write(self, skip: Tensor, update: Tensor) -> Tensor:
        return skip + update.roll(self.index, -1)


@dataclass(frozen=True, kw_only=True)
class NumbersItsSites(Toy):
    """A whole number in the graph is one graph a site."""

    def connection(self, d_model: int, site: Site) -> Connection:
        return Numbered(d_model, self.norm, site.index)


@dataclass(frozen=True, kw_only=True)
class SaysItStopsAGradient(Toy):
    """And stops none."""

    @property
    def exact_gradient(self) -> bool:
        return False


@dataclass(frozen=True, kw_only=True)
class DrawsAnew(Toy):
    """A scheme whose sublayers are its own."""

    @torch.no_grad()
    def init_sublayer_(self, value_path: Sequence[nn.Linear], site: Site) -> None:
        value_path[-1].weight.add_(1.0)


FAULTS: list[tuple[Callable[[Scheme], None], Scheme]] = [
    (laws.it_keeps_the_shape, Toy(faulty=WantsABatch)),
    (laws.the_future_does_not_leak, Toy(faulty=MixesTokens)),
    (laws.no_gradient_comes_from_the_past, Toy(faulty=MixesTokens)),
    (laws.a_connection_never_mixes_tokens, Toy(faulty=MixesTokens)),
    (laws.rows_of_a_batch_are_independent, Toy(faulty=MixesRows)),
    (laws.cached_decoding_equals_the_full_forward, Toy(faulty=CountsTokens)),
    (laws.every_parameter_learns, Toy(faulty=HasADeadParameter)),
    (laws.read_and_write_have_the_right_gradient, Toy(faulty=Detaches)),
    (laws.read_and_write_have_the_right_gradient, SaysItStopsAGradient()),
    (laws.checkpointing_changes_nothing, Toy(faulty=Remembers)),
    (laws.rebuilding_changes_nothing, Toy(faulty=RebuildsAnother)),
    (laws.it_starts_as_it_claims, Toy(faulty=IsHalf)),
    (laws.it_starts_as_it_claims, Toy(faulty=Detaches)),
    (laws.it_starts_as_it_claims, Toy(faulty=NormalisesAFraction)),
    (laws.a_probe_changes_no_bit, Toy(faulty=SeesTheProbe)),
    (laws_of_form.bfloat16_stays_bfloat16, Toy(faulty=WidensItsState)),
    (laws_of_form.autocast_leaves_connections_in_float32, Toy(faulty=MixesByMatrix)),
    (laws_of_form.a_meta_build_equals_a_direct_one, Toy(faulty=IsNeverFilled)),
    (laws_of_form.same_seed_gives_the_same_sublayers, DrawsAnew()),
    (laws_of_form.every_block_compiles_whole, Toy(faulty=ReadsTheNumbers)),
    (laws_of_form.every_block_compiles_whole, NumbersItsSites()),
    (laws_of_numbers.a_token_without_a_direction_is_finite_and_so_are_its_gradients, Toy(faulty=DividesByALength)),
    (laws_of_numbers.half_precision_adds_its_gradients_up, Toy(faulty=AddsUpInBfloat16)),
    (laws_of_numbers.a_model_in_half_precision_adds_its_gradients_up, Toy(faulty=AddsUpInBfloat16)),
]


@pytest.mark.parametrize(("law", "scheme"), FAULTS, ids=lambda case: getattr(case, "__name__", ""))
def test_a_law_catches_its_fault(law: Callable[[Scheme], None], scheme: Scheme) -> None:
    with pytest.raises((AssertionError, GradcheckError, UserError, TorchDynamoException)):
        law(scheme)


@pytest.mark.parametrize("law", dict.fromkeys(law for law, _ in FAULTS), ids=lambda law: law.__name__)
def test_the_same_law_lets_a_sound_scheme_pass(law: Callable[[Scheme], None]) -> None:
    law(Toy())
