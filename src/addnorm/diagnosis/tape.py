"""Everything that one forward computes, as a graph: each function of torch that was called, and by which module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle


@dataclass(eq=False)
class Value:
    """One floating-point tensor of a forward, as it was; a tensor changed in place is another value afterwards.

    Args:
        tensor: what it holds.
        made_by: the operation; None for what came from outside: the batch, parameters, buffers.
        edge: where its gradient arrives; None if none does.
        ancestors: bit i is set if it depends on value i.
        parameter: whether it is a parameter or a buffer.
        constant: whether it does not depend on the batch.
        learned: whether it is constant and depends on a parameter.
    """

    index: int
    tensor: Tensor
    made_by: int | None
    edge: Tensor | GradientEdge | None
    ancestors: int
    parameter: bool = False
    constant: bool = False
    learned: bool = False

    def depends_on(self, other: Value) -> bool:
        """Whether it was computed from another value."""
        return bool(self.ancestors >> other.index & 1)


@dataclass(eq=False)
class Op:
    """One call of a function of torch.

    Args:
        func: what was called.
        name: its name, without underscores around it: "add" for `+`, "iadd" for `+=`.
        args, kwargs: as they came, a `Value` for each tensor that is one.
        inputs, outputs: the values among them.
        call: the innermost call of a module that it happened in.
        outside: whether it was given a tensor that is no value, such as ids.
    """

    index: int
    func: Callable[..., Any]
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: list[int]
    outputs: list[int]
    call: int
    outside: bool = False


@dataclass(eq=False)
class Call:
    """One call of a module.

    Args:
        name: the module's dotted name.
        parent: the call it happened in; -1 for the model's own.
        inputs, outputs: values that went in and came out.
        first, last: operations that happened within: `first <= op < last`.
    """

    index: int
    name: str
    module: nn.Module
    parent: int
    inputs: list[int]
    first: int
    outputs: list[int] = field(default_factory=list)
    last: int = -1


class Tape(TorchFunctionMode):
    """Records a model's forward while it is entered: values, operations and calls of modules, in order."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.values: list[Value] = []
        self.ops: list[Op] = []
        self.calls: list[Call] = []
        self.non_finite: str | None = None
        self._latest: dict[int, int] = {}
        self._sharing: dict[int, list[int]] = {}
        self._stack: list[int] = []
        self._kept: list[Any] = []  # an id is a tensor's own for as long as the tensor lives
        self._handles: list[RemovableHandle] = []
        self._own = {id(p) for p in (*model.parameters(), *model.buffers())}

    def __enter__(self) -> Tape:
        for name, module in self.model.named_modules():
            before = module.register_forward_pre_hook(self._entered(name), with_kwargs=True)
            after = module.register_forward_hook(self._left, always_call=True)
            self._handles += [before, after]
        super().__enter__()
        return self

    def __exit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        super().__exit__(exc_type, exc_val, exc_tb)
        for handle in self._handles:
            handle.remove()

    def __torch_function__(self, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.__name__.strip("_")
        in_place = changes_its_first(func.__name__, kwargs) and isinstance(args[0], Tensor)
        if in_place:
            self._snapshot(args[0])
        known_args, known_kwargs = self._known(args), self._known(kwargs)
        result = func(*args, **kwargs)
        changed = args[0] if name == "setitem" else kwargs.get("out", result)
        outputs = list(tensors_of(changed))
        if not in_place:  # `x.to(x.dtype)` is x itself
            given = {id(tensor) for tensor in tensors_of((args, kwargs))}
            outputs = [tensor for tensor in outputs if id(tensor) not in given]
        if outputs and self._stack:
            inputs = [each.index for each in leaves((known_args, known_kwargs)) if isinstance(each, Value)]
            outside = any(isinstance(each, Tensor) for each in leaves((known_args, known_kwargs)))
            op = Op(len(self.ops), func, name, known_args, known_kwargs, inputs, [], self._stack[-1], outside)
            self.ops.append(op)
            op.outputs = [self._new(tensor, op).index for tensor in outputs]
        return result

    def value_of(self, tensor: Tensor) -> Value:
        """The value that a tensor holds now."""
        if id(tensor) not in self._latest:
            return self._new(tensor, None)
        return self.values[self._latest[id(tensor)]]

    def within(self, call: int, outer: int) -> bool:
        """Whether a call is another one or happened in it."""
        while call > outer:
            call = self.calls[call].parent
        return call == outer

    def callers(self, call: int) -> Iterator[Call]:
        """A call and all that it happened in, from within."""
        while call >= 0:
            yield self.calls[call]
            call = self.calls[call].parent

    def _known(self, tree: Any) -> Any:
        if isinstance(tree, Tensor):
            return self.value_of(tree) if tree.is_floating_point() else tree
        if isinstance(tree, dict):
            return {key: self._known(each) for key, each in tree.items()}
        return tuple(self._known(each) for each in tree) if isinstance(tree, list | tuple) else tree

    def _new(self, tensor: Tensor, op: Op | None) -> Value:
        index, ancestors = len(self.values), 0
        for each in op.inputs if op else ():
            ancestors |= self.values[each].ancestors
        edge = None
        if tensor.requires_grad:
            with torch._C.DisableTorchFunction():
                edge = tensor if tensor.is_leaf else torch.autograd.graph.get_gradient_edge(tensor)
        own = op is None and id(tensor) in self._own
        made_by = op.index if op else None
        constant = own or op is not None and op.outside is False and all(self.values[i].constant for i in op.inputs)
        learned = own or constant and op is not None and any(self.values[i].learned for i in op.inputs)
        value = Value(index, tensor, made_by, edge, ancestors | 1 << index, own, constant, learned)
        self.values.append(value)
        self._latest[id(tensor)] = index
        self._kept.append(tensor)
        self._sharing.setdefault(_storage(tensor), []).append(index)
        return value

    def _snapshot(self, tensor: Tensor) -> None:
        """Keep what values hold that share memory with what is about to be overwritten."""
        storage = _storage(tensor)
        for index in self._sharing.pop(storage, []):
            value = self.values[index]
            value.tensor = value.tensor.detach().clone()
            if self._latest.get(id(self._kept[index])) == index:
                self._sharing.setdefault(storage, []).append(index)

    def _entered(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            with torch._C.DisableTorchFunction():
                parent = self._stack[-1] if self._stack else -1
                inputs = [self.value_of(each).index for each in tensors_of((args, kwargs))]
                call = Call(len(self.calls), name, module, parent, inputs, len(self.ops))
                self.calls.append(call)
                self._stack.append(call.index)

        return hook

    def _left(self, module: nn.Module, args: Any, result: Any) -> None:
        with torch._C.DisableTorchFunction():
            call = self.calls[self._stack.pop()]
            call.outputs = [self.value_of(each).index for each in tensors_of(result)]
            call.last = len(self.ops)
            finite = all(bool(torch.isfinite(each).all()) for each in tensors_of(result))
            if not finite and self.non_finite is None:
                self.non_finite = call.name


def leaves(tree: Any) -> Iterator[Any]:
    """All that lists, tuples, dicts and objects of fields such as a `ModelOutput` hold."""
    if isinstance(tree, dict):
        tree = list(tree.values())
    elif hasattr(tree, "__dataclass_fields__") and not isinstance(tree, Value):
        tree = [getattr(tree, name, None) for name in tree.__dataclass_fields__]
    if isinstance(tree, list | tuple):
        for each in tree:
            yield from leaves(each)
    else:
        yield tree


def tensors_of(tree: Any) -> Iterator[Tensor]:
    """The floating-point tensors in it."""
    return (each for each in leaves(tree) if isinstance(each, Tensor) and each.is_floating_point())


def changes_its_first(name: str, kwargs: dict[str, Any]) -> bool:
    """Whether a function of this name writes into its first argument: `add_`, `+=`, `x[i] = y`."""
    inside = name.strip("_")
    plain = name.endswith("_") and not name.endswith("__")
    augmented = name.startswith("__i") and inside not in ("int", "index", "invert", "init")
    return plain or augmented or inside == "setitem" or bool(kwargs.get("inplace"))


def _storage(tensor: Tensor) -> int:
    with torch._C.DisableTorchFunction():
        return tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else id(tensor)
