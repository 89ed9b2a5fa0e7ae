"""The body: parts around stacks under one residual scheme; how its weights begin, are calibrated and kept."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from addnorm.choices import chosen
from addnorm.config import ModelConfig
from addnorm.errors import UserError
from addnorm.layers.context import Context
from addnorm.layers.embedding import Embedding
from addnorm.layers.initialise import initialise_
from addnorm.layers.padding import padding
from addnorm.models.sampling import in_evaluation
from addnorm.residual import Scheme, scheme_of
from addnorm.stack import Later, Stack, check_calibration

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

EXAMPLE_TOKENS = 64
Calibration = Tensor | tuple[Tensor, ...] | Later | None


class Body(nn.Module):
    """What all models here share; a model builds its parts and then calls `start_`.

    Args:
        scheme: the residual scheme, or its text.
        calibration: what came as such: what `forward` takes, "later", or None.
    """

    reads: ClassVar[str] = "a batch of token ids"
    """What `forward` takes and a calibration needs, in words."""

    config: Any
    stack: Stack

    def __init__(self, scheme: Scheme | str, calibration: Calibration) -> None:
        super().__init__()
        self.scheme = scheme_of(scheme)
        check_calibration(self.scheme, calibration, self.reads)

    def __repr__(self) -> str:
        """One line; `print(model.stack)` shows the modules."""
        shape = ", ".join([repr(self.scheme), *chosen(self.config, "d_model", "num_heads", "num_layers")])
        return f"{type(self).__name__}({shape}): {sum(p.numel() for p in self.parameters()):,} parameters"

    def stacks(self) -> list[tuple[Stack, list[Tensor]]]:
        """Each stack in the order of a forward, with the tables outside it whose rows are vectors of its stream."""
        return [(self.stack, [])]

    def example(self) -> tuple[Tensor, ...]:
        """What `forward` takes, of one item: for who only wants to see it run."""
        raise NotImplementedError

    def start_(self, seed: int, calibration: Calibration) -> None:
        """Draw the weights, and calibrate where a batch came.

        Args:
            seed: of the weights.
            calibration: as in `Body`.
        """
        self.initialise_(seed)
        if calibration is not None and not isinstance(calibration, str):
            self.calibrate_(*(calibration if isinstance(calibration, tuple) else (calibration,)))

    def initialise_(self, seed: int) -> None:
        """Fill all parameters afresh; does nothing to parameters on the meta device.

        Args:
            seed: the same seed gives the same sublayers under every scheme.
        """
        initialise_(self, seed, self.config.init)
        for stack, _ in self.stacks():
            stack.rescale_()
        self.after_step_()

    def after_step_(self) -> None:
        """Let the scheme bring weights back to where it wants them; after every step of an optimizer."""
        for stack, tables in self.stacks():
            stack.after_step_(tables)

    @torch.no_grad()
    def calibrate_(self, *batch: Tensor) -> None:
        """Let the scheme set what depends on data, in a forward without dropout; most schemes set nothing.

        A scheme that does (`Scheme.needs_calibration`) asks for its batch at construction, or for the word "later":
        then this is called, or weights are loaded, before the first forward.

        Args:
            batch: what `forward` takes.

        Raises:
            UserError: the scheme needs a calibration and the batch is not what `forward` takes.
        """
        if not self.scheme.needs_calibration:
            return
        try:
            inspect.signature(self.forward).bind(*batch)
        except TypeError as error:
            raise UserError(f"a {type(self).__name__} is calibrated on {self.reads}: {error}.") from None
        # Each stack is calibrated on what reaches it, and later ones find the earlier ones calibrated.
        hooks = [
            stack.register_forward_pre_hook(lambda stack, given: stack.calibrate_(*given)) for stack, _ in self.stacks()
        ]
        try:
            with in_evaluation(self):
                self(*batch)
        finally:
            for hook in hooks:
                hook.remove()


class TokenBody(Body):
    """A body that reads token ids through one embedding.

    Args:
        scheme: the residual scheme.
        config: the shape.
        calibration: as in `Body`.
        segments: kinds of segment that it tells apart.
    """

    config: ModelConfig

    def __init__(self, scheme: Scheme | str, config: ModelConfig, calibration: Calibration, segments: int = 0) -> None:
        super().__init__(scheme, calibration)
        self.config = config
        self.embedding = Embedding(config, segments)

    def example(self) -> tuple[Tensor, ...]:
        """Tokens."""
        tokens = min(EXAMPLE_TOKENS, self.config.max_tokens)
        return (torch.zeros(1, tokens, dtype=torch.long, device=self.embedding.tokens.weight.device),)

    def hidden(
        self,
        stack: Stack,
        tokens: Int[Tensor, "batch tokens"],
        segments: Int[Tensor, "batch tokens"] | None = None,
        *,
        keep: Bool[Tensor, "batch all_tokens"] | None = None,
        **context: Any,
    ) -> Float[Tensor, "batch tokens d_model"]:
        """What a stack makes of tokens, each at its position; padding has no part in statistics over tokens.

        Args:
            stack: one of the body's.
            tokens: token ids, behind those of the cache where there is one.
            segments: which segment each token is of.
            keep: which tokens are real (True), those of the cache included; None = all.
            context: other fields of `Context`.
        """
        cache = context.get("cache")
        positions = self.embedding.place(tokens, keep, cache.tokens if cache is not None else 0)
        with padding(keep if keep is None else keep[:, -tokens.shape[1] :]):
            embedded = self.embedding(tokens, positions, segments)
            return stack(embedded, Context(keep=keep, positions=positions, **context))
