"""Whether a module's call does more than its formula: then it is called, and no kernel computes it on the way."""

from __future__ import annotations

from torch import nn
from torch.nn.modules import module as torch_module

_OF_ALL_MODULES = (
    torch_module._global_forward_hooks,
    torch_module._global_forward_pre_hooks,
    torch_module._global_backward_hooks,
    torch_module._global_backward_pre_hooks,
)


def is_only(module: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Whether it is one of these classes: not derived, replaced, parametrised, compiled, patched or watched.

    Watched by a hook at it, or at all modules, as `FlopCounterMode` hangs in.
    """
    if type(module) not in kinds or module._compiled_call_impl is not None or "forward" in module.__dict__:
        return False
    if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks:
        return False
    return not any(_OF_ALL_MODULES)
