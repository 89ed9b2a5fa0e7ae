"""How the Triton kernels of a site of mHC are launched, with the tensors that the C++ kernel is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from addnorm.kernels.gpu import choice
from addnorm.kernels.gpu.mhc_backward_kernels import coefficients_backward, phi_backward, site_backward, site_sums
from addnorm.kernels.gpu.mhc_kernels import site_forward

FEATURES, TOKENS = 64, 64
"""Of `phi` and of a product with it, a program."""


def run(
    symbol: str, streams: Tensor, steps: Sequence[Any], site: dict[str, Any], gradients: dict[str, Any] | None = None
) -> None:
    """The call of `mhc_call.run`, for tensors on a GPU; a norm of the read has no kernel here.

    Args:
        symbol: "mhc_forward" or "mhc_backward".
        streams: a state.
        steps: the writes after it, up to the state that is meant.
        site: the site's weights and results.
        gradients: what comes and what goes, for backward.
    """
    assert site.get("norm", 0) == 0
    with torch.cuda.device_of(streams):
        if gradients is None:
            _forward(streams, steps, site)
        else:
            _backward(_made(streams, steps), site, gradients)


def _made(streams: Tensor, steps: Sequence[Any]) -> Tensor:
    """The state that the writes lead to."""
    for step in steps:
        written = torch.empty_like(streams)
        _forward(streams, (step,), {"written": written})
        streams = written
    return streams


def _sizes(streams: Tensor) -> tuple[int, dict[str, int]]:
    """The tokens, and what the kernels are compiled for."""
    n, d = streams.shape[-2:]
    return streams.numel() // (n * d), {"N": n, "D": d}


def _padded(n: int) -> dict[str, int]:
    """A product takes 16 rows or columns at least, and powers of 2."""
    return {"K_PAD": max(16, 1 << (n * n + 2 * n - 1).bit_length())}


def block(tokens: int) -> int:
    """Tokens of a program that reads all of `phi`: the more, the less often; but each processor should have some."""
    return 64 if tokens >= 16384 else 16


def _forward(streams: Tensor, steps: Sequence[Any], site: dict[str, Any]) -> None:
    if len(steps) > 1:
        streams, steps = _made(streams, steps[:-1]), steps[-1:]
    tokens, sizes = _sizes(streams)
    update, mixing, post = steps[0] if steps else (streams, streams, streams)
    written = site.get("written")
    if written is None:
        written = torch.empty_like(streams) if steps else streams
    names = ("read", "next_mixing", "next_post", "saved", "phi", "alpha", "bias")
    has_read = site.get("read") is not None
    # A pointer that the kernel does not follow is any.
    tensors = [site[name] if has_read else streams for name in names]
    rows = block(tokens)
    site_forward[(-(-tokens // rows),)](
        streams, update, mixing, post, written, *tensors, tokens, site.get("eps", 0.0), HAS_WRITE=bool(steps),
        HAS_READ=has_read, ITERATIONS=site.get("iterations", 1), ROWS=rows, CHUNK=32,
        N_PAD=1 << (sizes["N"] - 1).bit_length(), **sizes, **_padded(sizes["N"]),
    )  # fmt: skip


def _backward(state: Tensor, site: dict[str, Any], known: dict[str, Any]) -> None:
    tokens, sizes = _sizes(state)
    rows, write = block(tokens), known.get("last_update") is not None
    has_site = "saved" in site
    weights, of_logits, along, inverse = (
        _of_coefficients(state, site, known) if has_site else (state, state, state, state)
    )
    if has_site:  # before the state's gradient, which may be written where the next state's was
        _of_weights(state, (of_logits, inverse), site, known)
    phi, alpha, read, found = (
        (site["phi"], site["alpha"], known["read"], known["state"]) if has_site else (state, state, state, state)
    )
    taken = [known[name] if write else state for name in ("last_update", "last_post")]
    given = [known[name] if write else state for name in ("update", "post")]
    site_backward[(-(-tokens // rows),)](
        state, known["next_state"], read, weights, of_logits, inverse, along, phi, alpha, *taken, found, *given, tokens,
        HAS_SITE=has_site, HAS_WRITE=write, ROWS=rows, CHUNK=32, **sizes, **_padded(sizes["N"]),
    )  # fmt: skip


def _of_coefficients(state: Tensor, site: dict[str, Any], known: dict[str, Any]) -> tuple[Tensor, ...]:
    """The coefficients, the gradients of the logits, what is subtracted along the state, and the inverse rms."""
    tokens, sizes = _sizes(state)
    n, d = sizes["N"], sizes["D"]
    planes, saved = n * n + 2 * n, site["saved"].view(-1)
    weights, of_logits = saved.new_empty(n * n + n, tokens), saved.new_empty(planes, tokens)
    along = saved.new_empty(tokens)
    site_sums[(-(-tokens // 2),)](
        state, known["next_state"], known["read"], weights, tokens,
        ROWS=2, CHUNK=min(512, max(16, 1 << (d - 1).bit_length())), **sizes,
    )  # fmt: skip
    of_post, iterations = known.get("next_post"), site["iterations"]
    divided = saved.new_empty(2 * n * iterations, tokens)
    coefficients_backward[(-(-tokens // 32),)](
        saved, weights, weights if of_post is None else of_post, site["alpha"], site["bias"],
        divided, of_logits, along, tokens, HAS_POST=of_post is not None, ITERATIONS=iterations,
        ROWS=32, N_PAD=1 << (n - 1).bit_length(), **sizes,
    )  # fmt: skip
    return weights, of_logits, along, saved[planes * tokens : (planes + 1) * tokens]


def _of_weights(state: Tensor, numbers: tuple[Tensor, Tensor], site: dict[str, Any], known: dict[str, Any]) -> None:
    """The gradients of `phi`, `alpha` and `bias`."""
    tokens, sizes = _sizes(state)
    n, (of_logits, inverse) = sizes["N"], numbers
    planes, features = of_logits.shape[0], -(-n * sizes["D"] // FEATURES)
    splits = max(1, min(-(-tokens // TOKENS), choice.programs(state) // features))
    partials = of_logits.new_empty(splits, *site["phi"].shape)
    phi_backward[(features, splits)](
        state, of_logits, inverse, site["alpha"], partials, tokens,
        ROWS=TOKENS, CHUNK=FEATURES, **sizes, **_padded(n),
    )  # fmt: skip
    torch.sum(partials, 0, out=known["phi"])
    torch.sum(of_logits, 1, out=known["bias"])
    projected = site["saved"].view(-1)[: planes * tokens].view(planes, tokens)
    of_scale = (of_logits * projected).sum(1).split([n, n, n * n])
    known["alpha"].copy_(torch.stack([one.sum() for one in of_scale]))
