"""What derivatives of every residual scheme must be, however torch is asked for them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.func import functional_call, grad, jvp, vmap

from addnorm.residual import Scheme
from addnorm.testing.small_models import moved, noise_like, projected, tokens


def second_derivatives_are_right(scheme: Scheme) -> None:
    """The gradient of a gradient penalty: by autograd through what is fused, and by `torch.func` through formulas."""
    model, ids = moved(scheme, attention="plain").double(), tokens()
    parameters = dict(model.named_parameters())
    first = torch.autograd.grad(projected(model(ids)), list(parameters.values()), create_graph=True)
    ours = torch.autograd.grad(_squared(first), list(parameters.values()))

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        return projected(functional_call(model, parameters, (ids,)))

    def penalty(parameters: dict[str, Tensor]) -> Tensor:
        return _squared(grad(loss)(parameters).values())

    theirs = grad(penalty)({path: one.detach() for path, one in parameters.items()})
    for (path, expected), found in zip(theirs.items(), ours, strict=True):
        # 1e-8: float64, through two layers forward, backward and backward again.
        torch.testing.assert_close(
            found, expected, rtol=1e-8, atol=1e-8 * float(expected.abs().max()) + 1e-12, msg=path
        )


def _squared(gradients: Iterable[Tensor]) -> Tensor:
    total = sum(one.square().sum() for one in gradients)
    assert isinstance(total, Tensor)
    return total


def forward_mode_is_the_gradient_along_a_direction(scheme: Scheme) -> None:
    """`jvp` of the loss, and the scalar product of its gradient with the direction."""
    model, ids = moved(scheme, attention="plain").double(), tokens()
    parameters = {path: one.detach() for path, one in model.named_parameters()}
    direction = {path: noise_like(one) for path, one in parameters.items()}

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        return projected(functional_call(model, parameters, (ids,)))

    along = jvp(loss, (parameters,), (direction,))[1]
    loss_here = projected(model(ids))
    found = torch.autograd.grad(loss_here, list(model.parameters()))
    expected = sum(
        (one * direction[path]).sum() for (path, _), one in zip(model.named_parameters(), found, strict=True)
    )
    torch.testing.assert_close(along, expected, rtol=1e-9, atol=1e-9)


def vmap_over_rows_is_a_batch(scheme: Scheme) -> None:
    """Row by row under `vmap`, and all at once."""
    model, ids = moved(scheme, attention="plain").double(), tokens()
    with torch.no_grad():
        together = model(ids)
        # 1e-10: float64 sums taken in another order.
        torch.testing.assert_close(vmap(model)(ids[:, None])[:, 0], together, rtol=1e-10, atol=1e-10)
