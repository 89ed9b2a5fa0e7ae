"""What sees every operation of torch while it is entered."""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode


class DispatchMode(TorchDispatchMode):
    """Torch's own, which making a class of does not cost two seconds."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Torch's own switch: without it, making such a class imports torch's compiler."""
        return False
