"""What blocks do while somebody's own loop trains a model, every so many steps, without changing a bit of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils._pytree import tree_leaves

from addnorm.errors import UserError
from addnorm.files import finite
from addnorm.tracking.curves import by_depth
from addnorm.tracking.sinks import points_to

RecordedRow = dict[str, Any]
Sink = Callable[[RecordedRow], None]


class Recorder:
    """Records, at every so many steps of an optimizer, what each block of a model does.

    A row has for each block: `state_rms`, of what it is given; `update_rms`, of what it makes less what it was given;
    `gradient_rms`, of the loss's gradient at what it makes (of this process's part of the batch, without the factor
    of a gradient scaler); `weight_gradient`, the norm of its weights' gradients as the optimizer finds them; and
    `update_to_weight`, the norm of the optimizer's change over that of the weights.

    Between recorded steps no hook hangs at a block. Where a model or a block is compiled, its states are not seen:
    only the last two are recorded, and `note` says so. Recomputed forwards of activation checkpointing do not count;
    of several forwards before a step (accumulation) the squares are averaged.

    Args:
        model: any module, wrapped by DistributedDataParallel or sharded by fully_shard or neither.
        every: optimizer steps from one row to the next; the first step is recorded.
        to: where rows go: a path for JSON lines, a function, a SummaryWriter of TensorBoard, the module trackio, or
            several of these. They are kept in `rows` too.
        blocks: dotted names; by default the longest list of modules of one class.
        scaler: a torch.amp.GradScaler.

    Raises:
        UserError: the model has no list of blocks, or `every` or `to` is not allowed.

    Examples:
        >>> import torch, addnorm
        >>> model = addnorm.Transformer("pre-norm", vocab_size=20, d_model=16, num_heads=2, num_layers=2)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> with addnorm.Recorder(model, every=50) as recorder:
        ...     model(torch.zeros(1, 4, dtype=torch.long)).sum().backward()
        ...     _ = optimizer.step()
        >>> len(recorder.rows[0]["state_rms"])
        4
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        every: int = 50,
        to: Any = (),
        blocks: Iterable[str] = (),
        scaler: Any = None,
    ) -> None:
        if not isinstance(every, int) or every < 1:
            raise UserError(f"every={every!r} is not allowed; use a whole number of steps from 1.")
        self.names = tuple(blocks) or blocks_of(model)
        self.blocks = [_part(model, name) for name in self.names]
        self.every, self.step, self.scaler = every, 0, scaler
        self.rows: list[RecordedRow] = []
        self.sinks = [sink_of(each) for each in (to if isinstance(to, list | tuple) else (to,))]
        self._weights = [[p for p in block.parameters() if p.requires_grad] for block in self.blocks]
        self._compiled = _is_compiled(model, self.blocks)
        self._mine = {id(p) for p in model.parameters()}
        self._states: dict[str, list[list[Tensor]]] = {}
        self._before: list[list[Tensor]] = []
        self._handles: list[Any] = []
        self._watching: list[Any] = []
        self.note = "compiled: states and their gradients are not to be seen" if self._compiled else ""

    def __enter__(self) -> Recorder:
        self._clear()
        self._watch()
        self._handles.append(register_optimizer_step_pre_hook(self._about_to_step))
        self._handles.append(register_optimizer_step_post_hook(self._stepped))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in (*self._handles, *self._watching):
            handle.remove()
        self._handles.clear()
        self._watching.clear()
        self._clear()

    def as_trainer_callback(self) -> Any:
        """The same for the Trainer of transformers: enters where training begins and leaves where it ends."""
        from transformers import TrainerCallback

        recorder = self

        class RecorderCallback(TrainerCallback):
            def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                recorder.__enter__()

            def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                recorder.__exit__(None, None, None)

        return RecorderCallback()

    @property
    def due(self) -> bool:
        """Whether the step that is being made is recorded."""
        return self.step % self.every == 0

    def _watch(self) -> None:
        """Hang hooks at the blocks for a step that is recorded, and take them away after it.

        Modules that choose a faster way where nobody watches them (this library's, torch's encoders) lose it for that
        step alone.
        """
        for handle in self._watching:
            handle.remove()
        self._watching.clear()
        if self.due and not self._compiled:
            for i, block in enumerate(self.blocks):
                self._watching.append(block.register_forward_hook(self._ran(i), with_kwargs=True))

    def _clear(self) -> None:
        self._states = {name: [[] for _ in self.blocks] for name in ("state", "update", "gradient")}
        self._before = []

    def _ran(self, i: int) -> Callable[..., None]:
        def hook(block: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            if not self.due or not torch.is_grad_enabled() or torch._C._current_graph_task_id() != -1:
                return
            given, made = _first((args, kwargs)), _first(output)
            if given is None or made is None:
                return
            with torch.no_grad():
                self._states["state"][i].append(_mean_square(given))
                if made.shape == given.shape:
                    self._states["update"][i].append(_mean_square(made.detach() - given.detach()))
            if made.requires_grad:
                made.register_hook(self._flowed(i))

        return hook

    def _flowed(self, i: int) -> Callable[[Tensor], None]:
        def hook(gradient: Tensor) -> None:
            self._states["gradient"][i].append(_mean_square(gradient))

        return hook

    @torch.no_grad()
    def _about_to_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if not self.due or not self._steps_mine(optimizer):
            return
        self._before = [[_local(weight).detach().clone() for weight in weights] for weights in self._weights]

    @torch.no_grad()
    def _stepped(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if not self._steps_mine(optimizer):
            return
        if self.due and self._before:
            self._record()
        self.step += 1
        self._clear()
        self._watch()

    def _steps_mine(self, optimizer: torch.optim.Optimizer) -> bool:
        return any(id(p) in self._mine for group in optimizer.param_groups for p in group["params"])

    def _record(self) -> None:
        scale = float(self.scaler.get_scale()) if self.scaler is not None else 1.0
        moved, sizes, gradients = [], [], []
        for weights, before in zip(self._weights, self._before, strict=True):
            moved.append(_norm(weights, [_local(new) - old for new, old in zip(weights, before, strict=True)]))
            sizes.append(_norm(weights, before))
            gradients.append(_norm(weights, [_local(weight.grad) for weight in weights if weight.grad is not None]))
        row: RecordedRow = {
            "step": self.step,
            "state_rms": _roots(self._states["state"]),
            "update_rms": _roots(self._states["update"]),
            "gradient_rms": [None if root is None else root / scale for root in _roots(self._states["gradient"])],
            "weight_gradient": gradients,
            "update_to_weight": [new / old if old else None for new, old in zip(moved, sizes, strict=True)],
        }
        if self.note:
            row["note"] = self.note
        self.rows.append(row)
        for sink in self.sinks:
            sink({**row, "blocks": list(self.names)})


def blocks_of(model: nn.Module) -> tuple[str, ...]:
    """Dotted names of the longest list of modules of one class.

    Raises:
        UserError: there is none of two.
    """
    best: tuple[str, ...] = ()
    for name, module in model.named_modules():
        children = list(module.named_children())
        kinds = [type(child) for _, child in children]
        for kind in dict.fromkeys(kinds):
            found = [child for child, part in children if type(part) is kind and any(True for _ in part.parameters())]
            if isinstance(module, nn.ModuleList | nn.Sequential | nn.ModuleDict) and len(found) > max(len(best), 1):
                best = tuple(f"{name}.{child}" if name else child for child in found)
    if not best:
        raise UserError(
            f"{type(model).__name__} has no list of two or more modules of one class; give blocks=, their dotted names."
        )
    return best


def sink_of(to: Any) -> Sink:
    """A function that takes rows, from what `Recorder(to=...)` allows.

    Raises:
        UserError: it is none of these.
    """
    if isinstance(to, str | Path):
        return _lines(Path(to))
    write = points_to(to)
    if write is not None:
        return lambda row: write(row["step"], by_depth(_measures(row), row["blocks"]))
    if callable(to):
        return to
    raise UserError(
        f"to={to!r} is not allowed; give a path for JSON lines, a function, a SummaryWriter, or the module trackio."
    )


def _lines(path: Path) -> Sink:
    def write(row: RecordedRow) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(finite(row), allow_nan=False) + "\n")

    return write


def _measures(row: RecordedRow) -> dict[str, Any]:
    return {name: values for name, values in row.items() if name not in ("step", "blocks", "note")}


def _part(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError as error:
        raise UserError(f"block '{name}' is no module of {type(model).__name__} ({error}).") from None


def _is_compiled(model: nn.Module, blocks: list[nn.Module]) -> bool:
    holders = [part for part in model.modules() if any(blocks[0] is inside for inside in part.modules())]
    within = [*holders, *blocks]
    return any(type(part).__name__ == "OptimizedModule" or part._compiled_call_impl is not None for part in within)


def _first(tree: Any) -> Tensor | None:
    found = (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor) and leaf.is_floating_point())
    return next(found, None)


def _mean_square(x: Tensor) -> Tensor:
    x = _local(x.detach())
    return torch.linalg.vector_norm(x, dtype=torch.float32).square() / max(x.numel(), 1)


def _roots(squares: list[list[Tensor]]) -> list[float | None]:
    return [float(torch.stack(each).mean().sqrt()) if each else None for each in squares]


def _local(x: Tensor) -> Tensor:
    """This process's part of a sharded tensor; of any other the whole."""
    return x.to_local() if hasattr(x, "to_local") else x


def _norm(weights: list[nn.Parameter], parts: list[Tensor]) -> float:
    """Over all processes where the weights are sharded."""
    square = sum((torch.linalg.vector_norm(part, dtype=torch.float32).square() for part in parts), torch.zeros(()))
    sharded: Any = next((weight for weight in weights if hasattr(weight, "to_local")), None)
    if sharded is not None:
        square = square.clone()
        torch.distributed.all_reduce(square, group=sharded.device_mesh.get_group())
    return float(square.sqrt())
