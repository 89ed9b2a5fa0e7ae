"""The faults that public implementations have shipped, built from the catalogue's own schemes."""

from __future__ import annotations

import torch
from torch import Tensor

from addnorm.kernels.sinkhorn import sinkhorn
from addnorm.kernels.streams import mix_streams
from addnorm.residual import Connection, Scheme, Site, State
from addnorm.schemes._depth_history import HistoryConnection
from addnorm.schemes._mixing import MixingConnection
from addnorm.schemes._streams import project_streams, tokens_first
from addnorm.schemes.attention_residuals import AttentionResiduals
from addnorm.schemes.deepseek_mhc import DeepseekMHC
from addnorm.schemes.hyper_connections import HyperConnection, HyperConnections
from addnorm.schemes.identity_hc import IdentityHC, IdentityHCConnection
from addnorm.schemes.mhc import MHC, MHCConnection
from addnorm.schemes.post_norm import PostNorm, PostNormConnection
from addnorm.schemes.pre_norm import PreNorm, PreNormConnection


class TransposedConnection(MHCConnection):
    """`H_res^T X`, as in Megatron-LM #4957 before it was mended."""

    def read(self, state: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        x, (_, post) = super().read(state)
        n = state.shape[-2]
        rows = project_streams(state, self.phi[2 * n :], self.eps) * self.alpha[2] + self.bias[2 * n :, None]
        mixing = sinkhorn(rows.unflatten(0, (n, n)), self.iterations)
        return x, (mix_streams(state, tokens_first(mixing, state).mT), post)


def transposed(weights: Tensor) -> Tensor:
    return torch.cat((weights[..., :-1].mT, weights[..., -1:]), dim=-1)


class TransposedMHC(MHC):
    def connection(self, d_model: int, site: Site) -> Connection:
        return TransposedConnection(d_model, site, self)


class TransposedHyperConnection(HyperConnection):
    def read(self, state: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        x, (_, gains) = super().read(state)
        return x, (mix_streams(state, self.coefficients(state)[..., 1:-1]), gains)


class TransposedHC(HyperConnections):
    def connection(self, d_model: int, site: Site) -> Connection:
        return TransposedHyperConnection(d_model, site, self)


class TransposedMixingConnection(MixingConnection):
    def write(self, skip: tuple[Tensor, Tensor], update: Tensor) -> Tensor:
        return super().write((skip[0], transposed(skip[1])), update)


class UntransposedDeepseek(DeepseekMHC):
    """`C X` where DeepSeek-V4 has `C^T X`."""

    def connection(self, d_model: int, site: Site) -> Connection:
        return TransposedMixingConnection(d_model, self.norm, self.coefficients(d_model, site))


class UnmixedConnection(MHCConnection):
    def read(self, state: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        x, (_, post) = super().read(state)
        return x, (state, post)


class UnmixedMHC(MHC):
    def connection(self, d_model: int, site: Site) -> Connection:
        return UnmixedConnection(d_model, site, self)


class HalfConnection(MHCConnection):
    """`H_post = sigmoid(.)`."""

    def write(self, skip: tuple[Tensor, Tensor], update: Tensor) -> Tensor:
        return super().write(skip, update / 2)


class HalfMHC(MHC):
    def connection(self, d_model: int, site: Site) -> Connection:
        return HalfConnection(d_model, site, self)


class HalfIdentityConnection(IdentityHCConnection):
    def write(self, skip: tuple[Tensor, Tensor], update: Tensor) -> Tensor:
        return super().write((skip[0], skip[1] / 2), update)


class HalfIdentityHC(IdentityHC):
    def connection(self, d_model: int, site: Site) -> Connection:
        return HalfIdentityConnection(d_model, self)


class CumulativeConnection(HistoryConnection):
    """Keeps the stream after each sublayer instead of what the sublayer gave."""

    def write(self, skip: tuple[Tensor, ...], update: Tensor) -> tuple[Tensor, ...]:
        return (*skip, skip[-1] + update)


class CumulativeAttentionResiduals(AttentionResiduals):
    def connection(self, d_model: int, site: Site) -> Connection:
        return CumulativeConnection(d_model, self.norm, self.eps, reads=site.index + 1, appends=True)


class SummingConnection(HistoryConnection):
    """Keeps outputs, and attends over their running sums."""

    def read(self, state: tuple[Tensor, ...]) -> tuple[Tensor, State]:
        sums = torch.stack(state).cumsum(0).unbind()
        return super().read(sums)[0], state


class SummingAttentionResiduals(AttentionResiduals):
    def connection(self, d_model: int, site: Site) -> Connection:
        return SummingConnection(d_model, self.norm, self.eps, reads=site.index + 1, appends=True)


class WrongSidePostConnection(PostNormConnection):
    """`x + n(F(x))`."""

    def write(self, skip: Tensor, update: Tensor) -> Tensor:
        return skip + self.norm(update)


class WrongSidePostNorm(PostNorm):
    def connection(self, d_model: int, site: Site) -> Connection:
        return WrongSidePostConnection(d_model, self.norm)


class WrongSidePreConnection(PreNormConnection):
    """`n(x + F(x))`."""

    def read(self, state: Tensor) -> tuple[Tensor, Tensor]:
        return state, state

    def write(self, skip: Tensor, update: Tensor) -> Tensor:
        return self.norm(skip + update)


class WrongSidePreNorm(PreNorm):
    def connection(self, d_model: int, site: Site) -> Connection:
        return WrongSidePreConnection(d_model, self.norm)


class WrongSideMixingConnection(MixingConnection):
    """`C^T X + H_post^T n(F(H_pre X))`."""

    def read(self, state: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        norm, self.norm = self.norm, torch.nn.Identity()
        found = super().read(state)
        self.norm = norm
        return found

    def write(self, skip: tuple[Tensor, Tensor], update: Tensor) -> Tensor:
        return super().write(skip, self.norm(update))


class WrongSideDeepseek(DeepseekMHC):
    def connection(self, d_model: int, site: Site) -> Connection:
        return WrongSideMixingConnection(d_model, self.norm, self.coefficients(d_model, site))


# The scheme, the finding that names its fault, the words, and the finding's figure or None.
FAULTY: list[tuple[Scheme, str, str, float | None]] = [
    (TransposedMHC(), "mixing", "transposed mixing", None),
    (TransposedMHC(streams=3, iterations=5), "mixing", "transposed mixing", None),
    (TransposedHC(), "mixing", "transposed mixing", None),
    (UntransposedDeepseek(), "mixing", "transposed mixing", None),
    (UnmixedMHC(), "mixing", "mixing never applied", None),
    (HalfMHC(), "write gate", "missing factor 2 on the write gate", 0.5),
    (HalfIdentityHC(), "write gate", "missing factor 2 on the write gate", 0.5),
    (CumulativeAttentionResiduals(), "sources", "attention over cumulative states: the write", None),
    (SummingAttentionResiduals(), "sources", "attention over cumulative states: the read", None),
    (WrongSidePostNorm(), "norm placement", "computes res-post-norm, not post-norm", None),
    (WrongSidePostNorm(norm="rms"), "norm placement", "computes res-post-norm, not post-norm", None),
    (WrongSidePreNorm(), "norm placement", "computes post-norm, not pre-norm", None),
    (WrongSideDeepseek(), "norm placement", "norm on the wrong side: the read is not normalised, it is on the", None),
]
