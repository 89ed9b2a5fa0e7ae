"""Which route a linear map takes on this machine: measured once, checked for exactness, kept on disk, switchable.

"torch"     `torch.nn.functional.linear`
"onednn"    float32 by oneDNN, where torch's own library is slow (MKL on processors of other makers)
"float32"   bfloat16 operands in a float32 product, where the processor has no bfloat16 arithmetic
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from addnorm.errors import unknown
from addnorm.files import write_json
from addnorm.json_file import read_object
from addnorm.kernels import native

if TYPE_CHECKING:
    from jaxtyping import Float

ROUTES = {torch.float32: ("torch", "onednn"), torch.bfloat16: ("torch", "float32")}
GAIN = 1.25
"""How much faster than torch's own a route must be: below, noise would choose, and differently each time."""
INSTRUCTIONS = (
    *("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"),
    *("MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR", "MKL_DEBUG_CPU_TYPE", "ATEN_CPU_CAPABILITY"),
)
"""Variables that change which products are fast."""
TOKENS, INPUTS, OUTPUTS, ROUNDS = 256, 512, 1024, 7
CLOSE = 4.0
"""How many times torch's own largest error against float64 a route's may be: sums of other orders differ by less,
products rounded to bfloat16 by hundreds."""


@dataclass
class _State:
    chosen: dict[torch.dtype, str]
    file: Path | None = None


_STATE = _State(chosen={})


def current(dtype: torch.dtype) -> str:
    """The route for a precision: what `use` said, else what was measured on this machine, now if never before."""
    if dtype not in ROUTES or not torch._C._get_mkldnn_enabled():  # who switches oneDNN off gets torch's own
        return "torch"
    if dtype not in _STATE.chosen:
        _STATE.chosen[dtype] = _remembered(dtype)
    return _STATE.chosen[dtype]


def use(route: str, dtype: torch.dtype) -> None:
    """Set the route for a precision; "auto" measures.

    Raises:
        UserError: the precision has no such route.
    """
    allowed = (*ROUTES.get(dtype, ("torch",)), "auto")
    if route not in allowed:
        raise unknown(f"route of linear maps in {str(dtype).removeprefix('torch.')}", route, allowed)
    _STATE.chosen.pop(dtype, None)
    if route != "auto":
        _STATE.chosen[dtype] = route


@contextmanager
def using(route: str, dtype: torch.dtype) -> Iterator[None]:
    """Within it, a precision has this route."""
    before = dict(_STATE.chosen)
    use(route, dtype)
    try:
        yield
    finally:
        _STATE.chosen = before


def measure(dtype: torch.dtype) -> dict[str, Any]:
    """Each route's time and error for one product, by turns: `{"route": ..., "seconds": {...}, "errors": {...}}`.

    A route is taken if it is exact (`CLOSE`) and faster than torch's own by `GAIN`. Takes about 0.1 s. Processor
    time of one thread: on a busy machine, the time on the wall would tell of the others.
    """
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(1)
    on = torch._C._get_mkldnn_enabled()
    torch.set_float32_matmul_precision("highest")
    torch._C._set_mkldnn_enabled(True)
    try:
        # The first linear map of a run may stand under autocast, which would round what is to be multiplied wide, under
        # another default device, or where oneDNN is off for a while; what is measured is kept for all times.
        with torch.autocast("cpu", enabled=False), torch.device("cpu"):
            return _measured(dtype)
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
        torch._C._set_mkldnn_enabled(on)


def _measured(dtype: torch.dtype) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(TOKENS, INPUTS, generator=generator).to(dtype)
    weight = torch.randn(OUTPUTS, INPUTS, generator=generator).to(dtype)
    runs = {name: run for name, run in _runs(dtype).items() if _works(run, x, weight)}
    exact = x.double() @ weight.double().mT
    errors = {name: float((run(x, weight).double() - exact).abs().max()) for name, run in runs.items()}
    seconds = {name: float("inf") for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            start = time.thread_time()
            run(x, weight)
            seconds[name] = min(seconds[name], time.thread_time() - start)
    fit = [name for name in runs if errors[name] <= CLOSE * errors["torch"]]
    best = min(fit, key=seconds.__getitem__)
    return {"route": best if seconds["torch"] > GAIN * seconds[best] else "torch", "seconds": seconds, "errors": errors}


def status() -> dict[str, str]:
    """The route of each precision, as it would be taken now."""
    return {str(dtype).removeprefix("torch."): current(dtype) for dtype in ROUTES}


def onednn(x: Float[Tensor, "tokens inputs"], weight: Tensor, bias: Tensor | None) -> Float[Tensor, "tokens outputs"]:
    """`x W^T + b` by oneDNN; any strides."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def _runs(dtype: torch.dtype) -> Mapping[str, Callable[[Tensor, Tensor], Tensor]]:
    others: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "onednn": lambda x, weight: onednn(x, weight, None),
        "float32": lambda x, weight: F.linear(x.float(), weight.float()).to(x.dtype),
    }
    return {"torch": F.linear, **{name: others[name] for name in ROUTES[dtype] if name != "torch"}}


def _works(run: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor) -> bool:
    """Also warms up."""
    try:
        return run(x, weight).shape == (TOKENS, OUTPUTS)
    except (RuntimeError, AttributeError, NotImplementedError):
        return False


def _instructions() -> str:
    """What the environment lets the libraries use of the processor, if it says anything."""
    said = {name: os.environ[name] for name in INSTRUCTIONS if name in os.environ}
    return f", {said}" if said else ""


def _remembered(dtype: torch.dtype) -> str:
    """From an earlier process on the same kind of processor, else measured and kept."""
    name = str(dtype).removeprefix("torch.")
    machine = f"{native.processor_fingerprint()}, torch {torch.__version__}{_instructions()}"
    try:
        file = _STATE.file or native.folder() / "linear-routes.json"
        kept = read_object(file)
    except (OSError, ValueError):
        kept = {}
    kept = kept if isinstance(kept, dict) else {}
    known = kept.get(machine)
    known = known if isinstance(known, dict) else {}
    entry = known.get(name)
    if isinstance(entry, dict) and entry.get("route") in ROUTES[dtype]:
        return str(entry["route"])
    with torch.inference_mode():
        found = measure(dtype)
    with suppress(OSError):  # then the next process measures again
        file = _STATE.file or native.folder() / "linear-routes.json"
        write_json(file, kept | {machine: known | {name: found}})
    return str(found["route"])
