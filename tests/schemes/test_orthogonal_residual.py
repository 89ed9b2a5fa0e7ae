"""Orthogonal residual updates: orthogonal for each token."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from addnorm import Stack, UserError
from addnorm.residual import Connection, Site
from addnorm.schemes.orthogonal_residual import OrthogonalConnection, OrthogonalResidual
from addnorm.testing import laws
from transcription import Parts, assert_agrees, norm


def equation(parts: Parts) -> Tensor:
    x = parts.x
    for F, p in zip(parts.F, parts.at, strict=True):
        f = F(norm(x, p, "norm"))
        # The projector onto what is orthogonal to x, as a matrix for each token.
        outer = torch.einsum("bti,btj->btij", x, x) / (torch.einsum("bti,bti->bt", x, x) + 1e-6)[..., None, None]
        x = x + torch.einsum("btij,btj->bti", torch.eye(x.shape[-1], dtype=x.dtype) - outer, f)
    return norm(x, parts.exit, "norm")


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_it_is_its_equation(kind):
    assert_agrees(OrthogonalResidual(norm=kind), equation)


def test_what_is_added_is_orthogonal_and_the_stream_never_shrinks():
    torch.manual_seed(0)
    connection = Stack(OrthogonalResidual(), [nn.Identity()], 16).double().blocks[0].connection
    skip, update = torch.randn(4, 7, 16, dtype=torch.float64), torch.randn(4, 7, 16, dtype=torch.float64)
    after = connection.write(skip, update)
    # 1e-5: eps = 1e-6 over a squared length of about 16, times products of about 4.
    assert ((after - skip) * skip).sum(-1).abs().max() < 1e-5
    assert (after.norm(dim=-1) >= skip.norm(dim=-1) - 1e-6).all()


def test_an_update_along_the_stream_is_lost():
    connection = Stack(OrthogonalResidual(), [nn.Identity()], 16).blocks[0].connection
    skip = torch.randn(3, 16)
    torch.testing.assert_close(connection.write(skip, 5 * skip), skip)


class OverAllTokens(OrthogonalConnection):
    """The product over tokens and features at once, as x-transformers 2.31.10 takes it."""

    def write(self, skip: Tensor, update: Tensor) -> Tensor:
        along = (skip * update).sum((-1, -2), keepdim=True) / skip.square().sum((-1, -2), keepdim=True)
        return skip + update - along * skip


class Leaking(OrthogonalResidual):
    def connection(self, d_model: int, site: Site) -> Connection:
        return OverAllTokens(d_model, self.norm, self.eps)


def test_taken_over_all_tokens_it_leaks_the_future_and_the_law_finds_it():
    with pytest.raises(AssertionError):
        laws.the_future_does_not_leak(Leaking())


def test_an_eps_that_is_not_positive_is_refused():
    with pytest.raises(UserError, match="eps=0"):
        OrthogonalResidual(eps=0)
