"""What a user's own scheme, sublayers or ids get wrong is told in a line, not from within torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import addnorm
from addnorm import Stack, Transformer, UserError, schemes
from addnorm.residual import Site
from addnorm.schemes.pre_norm import PreNorm, PreNormConnection

SHAPE = {"vocab_size": 11, "d_model": 8, "num_heads": 2, "num_layers": 1}


class ReadsOne(PreNormConnection):
    def read(self, state: Tensor) -> Any:
        return self.norm(state)


class ReadsThree(PreNormConnection):
    def read(self, state: Tensor) -> Any:
        return self.norm(state), state, state


class ReadsNothing(PreNormConnection):
    def read(self, state: Tensor) -> Any:
        self.norm(state)


class WritesNothing(PreNormConnection):
    def write(self, skip: Tensor, update: Tensor) -> Any:
        skip + update  # noqa: B018


class Fails(PreNormConnection):
    def write(self, skip: Tensor, update: Tensor) -> Any:
        raise RuntimeError("the user's own")


@dataclass(frozen=True, kw_only=True)
class Wrong(addnorm.Scheme):
    """A scheme with a given connection."""

    kind: Any = PreNormConnection

    def connection(self, d_model: int, site: Site) -> Any:
        return self.kind and self.kind(d_model, self.norm)


def told(error: Any, said: str) -> None:
    assert said in str(error.value) and "\n" not in str(error.value), str(error.value)


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (ReadsOne, "ReadsOne.read returned one tensor of shape ({batch}, 2, 8) at sublayer 0; return two things"),
        (ReadsThree, "ReadsThree.read returned 3 things at sublayer 0; return two things"),
        (ReadsNothing, "ReadsNothing.read returned nothing at sublayer 0; return two things"),
        (WritesNothing, "WritesNothing.write returned nothing at sublayer 0; return the new state"),
    ],
)
def test_a_connection_that_breaks_the_contract_is_named(kind: type, said: str, batch: int, depth: int) -> None:
    # Two rows of one tensor pass for a pair: with a batch of two nothing fails by itself.
    stack = Stack(Wrong(kind=kind), [nn.Linear(8, 8) for _ in range(depth)], d_model=8)
    with pytest.raises(UserError) as error:
        stack(torch.randn(batch, 2, 8))
    told(error, said.format(batch=batch))


def test_the_same_in_a_whole_model_and_in_its_gradient_checkpointing() -> None:
    model = Transformer(Wrong(kind=ReadsOne), **SHAPE)
    for checkpointing in (False, True):
        model.stack.checkpointing = checkpointing
        with pytest.raises(UserError) as error:
            model(torch.zeros(3, 2, dtype=torch.long))
        told(error, "ReadsOne.read returned one tensor of shape (3, 2, 8) at sublayer 0")


def test_a_scheme_without_a_connection_is_named() -> None:
    with pytest.raises(UserError, match="Wrong.connection made a NoneType; return an object of a class that derives"):
        Stack(Wrong(kind=None), [nn.Linear(8, 8)], d_model=8)


def test_widths_that_differ_are_both_named() -> None:
    with pytest.raises(UserError) as error:
        Stack("pre-norm", [nn.Linear(16, 16)], d_model=8)(torch.randn(2, 3, 8))
    told(error, "sublayer 0 (Linear) takes vectors of width 16, and the stack is built for d_model=8")
    with pytest.raises(UserError) as error:
        Stack("mhc", [nn.Linear(8, 8), nn.Sequential(nn.ReLU(), nn.Linear(6, 8))], d_model=8)(torch.randn(2, 3, 8))
    told(error, "sublayer 1 (Sequential) takes vectors of width 6, and the stack is built for d_model=8")
    with pytest.raises(UserError) as error:
        Stack("pre-norm", [nn.Linear(8, 8)], d_model=8)(torch.randn(2, 3, 16))
    told(error, "vectors of width 16 came for a stack of d_model=8")


def test_what_parts_raise_by_themselves_stays_as_it_is() -> None:
    with pytest.raises(RuntimeError, match="the user's own") as error:
        Stack(Wrong(kind=Fails), [nn.Linear(8, 8)], d_model=8)(torch.randn(2, 3, 8))
    assert not isinstance(error.value, UserError)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bad", [11, -1])
def test_an_id_beyond_the_vocabulary_is_named(bad: int, dtype: torch.dtype) -> None:
    model = Transformer("pre-norm", **SHAPE).to(dtype)
    with pytest.raises(UserError) as error:
        model(torch.tensor([[1, bad]]))
    told(error, f"token id {bad} came, and the model has 11, 0 to 10; give ids of these")


def test_a_segment_beyond_the_table_is_named() -> None:
    encoder = addnorm.Encoder("post-norm", segments=2, **SHAPE)
    with pytest.raises(UserError) as error:
        encoder(torch.zeros(1, 2, dtype=torch.long), segments=torch.tensor([[0, 2]]))
    told(error, "segment 2 came, and the model has 2, 0 to 1")


def test_models_and_stacks_read_a_schemes_text() -> None:
    model = Transformer("mhc(streams=2)", **SHAPE)
    assert model.scheme == model.stack.scheme == schemes.parse("mhc(streams=2)")
    for body in (addnorm.Encoder, addnorm.EncoderDecoder):
        assert body("post-norm", **SHAPE).scheme == schemes.parse("post-norm")
    with pytest.raises(UserError, match="scheme 'prenorm' is unknown; did you mean 'pre-norm'"):
        Transformer("prenorm", **SHAPE)


def test_a_class_is_not_yet_a_scheme() -> None:
    with pytest.raises(UserError, match=r"PreNorm is a class, and a scheme is an object of it; write PreNorm\(\)."):
        Transformer(PreNorm, **SHAPE)  # pyrefly: ignore
    with pytest.raises(UserError, match="a Linear is no scheme; give a text such as 'pre-norm', or an object"):
        Stack(nn.Linear(2, 2), [nn.Linear(8, 8)], d_model=8)  # pyrefly: ignore


def test_what_holds_the_contract_pays_nothing_for_the_look(monkeypatch: pytest.MonkeyPatch) -> None:
    import addnorm.stack

    monkeypatch.setattr(addnorm.stack, "first_fault", None)  # would raise if it were called
    Transformer("mhc", **SHAPE)(torch.zeros(2, 2, dtype=torch.long)).sum().backward()
