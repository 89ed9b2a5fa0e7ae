"""Every entrance to a kernel with each of its arguments in turn as a wrapper subclass; run by test_addresses.py."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed._functional_collectives import AsyncCollectiveTensor

import addnorm
from addnorm.kernels import linear_routes
from addnorm.kernels.add_norm import add_norm
from addnorm.kernels.depth_attention import depth_attention
from addnorm.kernels.depth_history import Norm, begin, norms_fit
from addnorm.kernels.depth_history_call import LAYER
from addnorm.kernels.few_rows import few_rows
from addnorm.kernels.linear import linear
from addnorm.kernels.mhc_read import Numbers, mhc_read
from addnorm.kernels.mhc_weights import Form, Weights, read_reference
from addnorm.kernels.norm_of_sum import NormOfSum
from addnorm.kernels.normed_projection import normed_projection
from addnorm.kernels.rms_norm import rms_norm
from addnorm.kernels.rotary import turned
from addnorm.kernels.sinkhorn import sinkhorn
from addnorm.kernels.sinkhorn_with_eps import sinkhorn_with_eps
from addnorm.kernels.streams import mix_streams

D = 8
STREAMED = ("mhc", "attention-residuals", "block-attention-residuals(num_blocks=2)")


def functions() -> int:
    """Each fused operation, each tensor in turn."""
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    numbers = Numbers(iterations=3, eps=1e-6)
    cases: list[tuple[Callable[..., Any], list[Tensor]]] = [
        (
            lambda x, y, w, b: add_norm(x, y, w, b, NormOfSum(eps=1e-5, centred=True)),
            [noise(3, D), noise(3, D), noise(D), noise(D)],
        ),
        (lambda x, w: rms_norm(x, w, 1e-5), [noise(3, D), noise(D)]),
        (lambda x, w: normed_projection(x, w, 1e-6), [noise(3, D), noise(5, D)]),
        (lambda x: sinkhorn(x, 3), [noise(4, 4, 3)]),
        (lambda x: sinkhorn_with_eps(x, 3), [noise(4, 4, 3)]),
        (mix_streams, [noise(3, 4, D), noise(3, 2, 4)]),
        (lambda *given: mhc_read(*given, numbers), [noise(3, 2, D), noise(8, 2 * D), noise(8), noise(8)]),
        (lambda q, *s: depth_attention(q, s, 1e-6), [noise(D), noise(3, D), noise(3, D)]),
        (turned, [noise(5, 2), noise(2, 2, 5, 4), noise(2, 2, 5, 4)]),
        (linear, [noise(20, D), noise(5, D), noise(5)]),
        (few_rows, [noise(1, D), noise(5, D), noise(5)]),
        (history, [noise(3, D), noise(3, D), noise(D), noise(D), noise(D)]),
        (site, [noise(3, 2, D), noise(8, 2 * D), noise(3), noise(8), noise(D), noise(D)]),
    ]
    tried = 0
    with linear_routes.using("onednn", torch.float32):
        for run, given in cases:
            expected = first_of(run(*given))
            for place in range(len(given)):
                wrapped = [AsyncCollectiveTensor(one) if i == place else one for i, one in enumerate(given)]
                found = first_of(run(*wrapped))
                torch.testing.assert_close(as_plain(found), expected, rtol=1e-4, atol=1e-5)
                tried += 1
    return tried


def history(first: Tensor, second: Tensor, query: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    """One read of two sources, and its norm."""
    norm = nn.LayerNorm(D)
    begun = begin([first, second], [query], 1e-6)
    if begun is None:
        return nn.functional.layer_norm(depth_attention(query, (first, second), 1e-6), (D,), gain, bias)
    form = Norm(kind=LAYER, weight=gain, bias=bias, eps=norm.eps)
    if not norms_fit([form], begun):
        return nn.functional.layer_norm(begun.read(Norm())[0], (D,), gain, bias)
    return begun.read(form)[0]


def site(streams: Tensor, phi: Tensor, alpha: Tensor, bias: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    """The read of one site of mHC."""
    from addnorm.kernels import mhc_site

    form = Form(numbers=Numbers(iterations=3, eps=1e-6), norm="layer", norm_eps=1e-5)
    weights = Weights(phi=phi, alpha=alpha, bias=bias, gain=gain, shift=shift, form=form)
    return (
        mhc_site.read(streams, weights)[0] if mhc_site.fits(streams, weights) else read_reference(streams, weights)[0]
    )


class Wrapped(torch.autograd.Function):
    """A wrapper that stands in the graph, as the collectives of torch's tensor parallelism hand it out."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return AsyncCollectiveTensor(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        return as_plain(grad_outputs[0])


class Doubled(nn.Module):
    """A sublayer whose output is what a row-parallel layer returns."""

    def __init__(self, wrap: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.wrap = wrap

    def forward(self, x: Tensor, *context: Any) -> Tensor:
        return self.wrap(torch.tanh(2 * x) + 0.1)


def sublayers() -> int:
    """Every scheme over sublayers one, some or all of which return a wrapper: the same values and gradients."""
    tried = 0
    for text in (*STREAMED, "pre-norm", "post-norm", "deep-norm", "deepseek-mhc", "delta-attention-residuals", "altup"):
        outcomes = []
        for wrapped in ((), (0,), (2,), (1, 3), (0, 1, 2, 3)):
            made = [Doubled(Wrapped.apply if i in wrapped else (lambda x: x)) for i in range(4)]
            torch.manual_seed(0)
            stack = addnorm.Stack(addnorm.schemes.parse(text), made, d_model=D)
            generator = torch.Generator().manual_seed(1)
            with torch.no_grad():
                for parameter in stack.parameters():
                    parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
            embedding = torch.randn(2, 5, D, generator=generator).requires_grad_()
            hidden = as_plain(stack(embedding))
            hidden.square().sum().backward()
            outcomes.append([hidden.detach(), embedding.grad, *(p.grad for p in stack.parameters())])
            tried += 1
        for other in outcomes[1:]:
            for one, expected in zip(other, outcomes[0], strict=True):
                torch.testing.assert_close(one, expected, rtol=1e-4, atol=1e-4)  # float32, another order of sums
    return tried


def shards() -> int:
    """Gains, shifts and matrices of a connection as DTensors: torch's own word, or its values; never a signal."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, distribute_tensor

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK="0", WORLD_SIZE="1")
    dist.init_process_group("gloo")
    mesh, tried = init_device_mesh("cpu", (1,)), 0
    for text in (*STREAMED, "pre-norm", "post-norm", "deep-norm"):
        scheme = addnorm.schemes.parse(text)
        names = [name for name, _ in addnorm.Stack(scheme, plain(), d_model=D).named_parameters()]
        for name in names:
            stack = addnorm.Stack(scheme, plain(), d_model=D)
            owner, _, last = name.rpartition(".")
            module = stack.get_submodule(owner)
            setattr(module, last, nn.Parameter(distribute_tensor(getattr(module, last).detach(), mesh, [Replicate()])))
            try:
                stack(torch.randn(2, 5, D))
            except RuntimeError as error:
                assert "DTensor" in str(error), error
            tried += 1
    dist.destroy_process_group()
    return tried


def plain() -> list[nn.Module]:
    return [Doubled(lambda x: x) for _ in range(4)]


def first_of(result: Any) -> Tensor:
    return result if isinstance(result, Tensor) else result[-1]


def as_plain(tensor: Tensor) -> Tensor:
    return tensor.wait() if isinstance(tensor, AsyncCollectiveTensor) else tensor


if __name__ == "__main__":
    torch.set_num_threads(1)
    for group in (functions, sublayers, shards):
        print(f"{group.__name__} {group()} tried", flush=True)
