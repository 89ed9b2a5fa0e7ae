"""Every scheme under every law. A new scheme is one file in `schemes/` and one line here."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from addnorm import schemes, testing
from addnorm.residual import Scheme
from laws_of_the_catalogue import its_docstring_describes_it

pytestmark = [pytest.mark.law, pytest.mark.usefixtures("untimed_guards")]

# One line a scheme: the specifications that are tried. Not `norm=batch`, which mixes tokens in training by design.
SPECIFICATIONS = (
    ["attention-residuals", "attention-residuals(norm=rms)"],
    ["block-attention-residuals", "block-attention-residuals(num_blocks=2, norm=rms)"],
    ["hyper-connections", "hyper-connections(streams=3, norm=rms, reduce=mean, output_factor=2.0)"],
    ["deepseek-mhc", "deepseek-mhc(streams=3, norm=layer, reduce=mean, iterations=4, projection_std=0.02)"],
    ["krom-hc", "krom-hc(streams=2, norm=rms, reduce=mean)"],
    ["mhc-lite", "mhc-lite(streams=3, norm=rms, reduce=head)"],
    ["frac-connections", "frac-connections(fractions=2, norm=rms)"],
    ["gated-multi-residual", "gated-multi-residual(streams=2, rank=5)"],
    ["deep-delta", "deep-delta(norm=layer, beta_init=0.4, value_scale=2.0)"],
    ["residual-dual", "residual-dual(norm=rms, scale=0.25)"],
    ["siamese-norm", "siamese-norm(norm=rms)"],
    ["single-pass-mhc", "single-pass-mhc(streams=3, norm=layer, iterations=4, projection_std=0.02)"],
    ["altup", "altup(streams=3, norm=layer, select=alternating)"],
    ["identity-hc", "identity-hc(streams=2, norm=rms, reduce=sum)"],
    [
        "mhc",
        "mhc(streams=3, norm=rms, reduce=sum, iterations=5)",
        "mhc(read_from=all, projection_std=0.02, reduce=head)",
    ],
    ["static-hyper-connections", "static-hyper-connections(streams=2, norm=rms)"],
    ["admin", "admin(growth=linear, norm=rms)"],
    ["by-layer(share=0.5)", "by-layer(first=deep-norm, share=0.5, rest=peri-norm)"],
    ["b2t"],
    ["backout", "backout(inner=residual-lambdas, init=0)"],
    ["beam", "beam(norm=layer)"],
    ["complete-p", "complete-p(base_layers=1, alpha=0.5)"],
    ["deep-scale-lm", "deep-scale-lm(norm=rms, beta_squared=0.1)"],
    ["dca", "dca(ends=0, std=0.0, norm=layer)"],
    ["delta-attention-residuals", "delta-attention-residuals(null=learned, norm=rms)"],
    ["dense-former", "dense-former(dilation=2, norm=rms)", "dense-former(period=2)"],
    ["derf"],
    ["dyt", "dyt(alpha=0.3, attention_alpha=0.8)"],
    ["fixup"],
    ["gemma-laurel", "gemma-laurel(norm=layer, rank=3)"],
    ["gpas", "gpas(inner=deep-norm, place=skip)"],
    ["deep-norm", "deep-norm(norm=rms)"],
    ["gpt2-init(eps=1e-6)"],
    ["highway", "highway(gate=token, norm=layer, bias=1)"],
    ["keel", "keel(alpha=3.0, norm=rms)"],
    ["laurel", "laurel(weights=none, rank=3, previous=2, norm=rms)", "laurel(rank=0)"],
    ["layer-norm-scaling", "layer-norm-scaling(factor=gain, norm=rms)"],
    ["layer-scale", "layer-scale(init=1.0)"],
    ["mix-norm(share=0.5)"],
    ["mudd", "mudd(norm=layer, last_expand=1)"],
    ["muse-spark", "muse-spark(norm=layer, init=0.3)"],
    ["orthogonal-residual", "orthogonal-residual(norm=rms)"],
    ["peri-norm"],
    ["plain", "plain(norm=none)"],
    ["post-norm", "post-norm(entrance_norm=layer, eps=1e-12)"],
    ["pre-norm", "pre-norm(norm=rms, eps=1e-6)", "pre-norm(norm=tanh)", "pre-norm(norm=erf)"],
    ["pre-post-norm", "pre-post-norm(alpha=0.5)"],
    ["res-post-norm", "res-post-norm(gain=0.0)"],
    ["residual-lambdas", "residual-lambdas(norm=layer, residual_first=1)"],
    ["resnet-add", "resnet-add(branch_norm=layer)"],
    ["t-fixup"],
    ["rezero", "rezero(norm=layer)"],
    ["sandwich-norm"],
    ["hybrid-norm", "hybrid-norm(norm=layer, first=pre)"],
    ["n-gpt", "n-gpt(alpha=0.3)"],
    ["norm-former", "norm-former(norm=rms, skip=scaled)"],
    ["real-former", "real-former(inner=pre-norm(norm=rms))"],
    ["sub-norm", "sub-norm(norm=rms)"],
    ["value-residual", "value-residual(mix=learned, share=0.3, inner=deep-norm)", "value-residual(share=0.0)"],
    ["stochastic-depth", "stochastic-depth(inner=deep-norm(norm=rms), p_max=0.5)"],
    ["unet-skips", "unet-skips(norm=layer, init=0)"],
)

LAWS = testing.LAWS | {"its_docstring_describes_it": its_docstring_describes_it}


@pytest.mark.parametrize("specification", [text for line in SPECIFICATIONS for text in line])
@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS.keys())
def test_law(law: Callable[[Scheme], None], specification: str) -> None:
    law(schemes.parse(specification))


@pytest.mark.parametrize("name", schemes.names())
def test_every_scheme_is_under_the_laws(name: str) -> None:
    tried = {schemes.name_of(schemes.parse(text)) for line in SPECIFICATIONS for text in line}
    assert name in tried, f'add this line to SPECIFICATIONS in tests/test_conformance.py:     ["{name}"],'
