"""Which kernels a process uses, said in one word."""

from __future__ import annotations

import torch

from addnorm.errors import unknown
from addnorm.kernels import linear_routes, native

VARIABLE = "ADDNORM_KERNELS"
"""The environment variable that commands, and the processes they start, read the word from."""
CHOICES = ("auto", "torch")


def choose(word: str) -> None:
    """ "auto" takes the fastest exact kernels of this machine; "torch" takes torch's operations alone.

    Raises:
        UserError: it is another word.
    """
    if word not in CHOICES:
        raise unknown(VARIABLE, word, CHOICES)
    native.use(word == "auto")
    for dtype in linear_routes.ROUTES:
        linear_routes.use(word, dtype)


def status() -> dict[str, str]:
    """What runs in this process, kernel by kernel."""
    routes = {f"linear, {dtype}": route for dtype, route in linear_routes.status().items()}
    return native.status() | routes | {"threads": str(torch.get_num_threads())}
