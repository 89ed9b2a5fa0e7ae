"""Multi-head attention from explicit query, key, value and output projections."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from addnorm.checks import check_at_least, check_attention, check_heads, check_positive, check_probability
from addnorm.errors import UserError, unknown
from addnorm.layers.context import Context, attention_mask, check_keep
from addnorm.layers.inside import Inside, Parts, PlaceShape
from addnorm.layers.linear import mapped
from addnorm.layers.linear_attention import linear_mixture
from addnorm.layers.mixture import attention_scores, fused_mixture, mixture_by_scores
from addnorm.layers.norm import RMSNorm
from addnorm.layers.one_token import attention_of_one
from addnorm.layers.position import Rotary
from addnorm.layers.views import Views, views_of
from addnorm.layers.watched import is_only
from addnorm.layers.whole_sublayer import attention_whole
from addnorm.layers.window import reach_of, window_mixture

if TYPE_CHECKING:
    from jaxtyping import Float

KERNELS = ("fused", "plain", "sliding-window", "linear")


@dataclass(frozen=True, kw_only=True)
class AttentionOptions:
    """What an attention layer may vary.

    Args:
        num_kv_heads: heads of keys and values; fewer than `num_heads` is grouped-query attention. None = `num_heads`.
        bias: whether the projections have biases.
        qk_norm: "rms" normalises each head's queries and keys; "none" does not.
        rotary: turn queries and keys by their positions.
        rotary_base: the wave length of the slowest turn is about `2 pi` times this.
        dropout: the probability of dropping an attention weight in training.
        output_dropout: the probability of dropping a feature of the output in training.
        kernel: "fused" is torch's `scaled_dot_product_attention`; "plain" holds the scores, `tokens^2` of them a head;
            "sliding-window" and "linear" (`addnorm.layers.linear_attention`) cost a fixed amount a token.
        window: of the sliding window: a causal token sees itself and the `window - 1` before it, others themselves and
            `window // 2` on each side.
        inside: what a residual scheme asks for within the layer.
    """

    num_kv_heads: int | None = None
    bias: bool = True
    qk_norm: Literal["rms", "none"] = "none"
    rotary: bool = False
    rotary_base: float = 10000.0
    dropout: float = 0.0
    output_dropout: float = 0.0
    kernel: Literal["fused", "plain", "sliding-window", "linear"] = "fused"
    window: int | None = None
    inside: Inside = Inside()

    def __post_init__(self) -> None:
        check_probability("dropout", self.dropout)
        check_probability("output_dropout", self.output_dropout)
        check_positive("rotary_base", self.rotary_base)
        if self.qk_norm not in ("rms", "none"):
            raise unknown("qk_norm", str(self.qk_norm), ("rms", "none"))
        if self.kernel not in KERNELS:
            raise unknown("kernel", str(self.kernel), KERNELS)
        check_attention(self.kernel, self.window, self.dropout)
        if self.inside.scores is not None and self.kernel != "plain":
            raise UserError(
                f"the scheme changes attention scores, which the {self.kernel} kernel never holds; give the model "
                "attention='plain' (an Attention of your own: AttentionOptions(kernel='plain'))."
            )


class Attention(nn.Module):
    """Multi-head self-attention: `softmax(q k^T / sqrt(d_head) + mask) v` per head, then an output projection.

    With the linear kernel the weights are `phi(q) . phi(k)` over their sum: see `addnorm.layers.linear_attention`.

    A token that may attend to nothing gets a mixture of zeros, never NaN. Vaswani et al. 2017, arXiv:1706.03762;
    grouped-query heads: Ainslie et al. 2023, arXiv:2305.13245; QK-norm: Henry et al. 2020, arXiv:2010.04245, here
    RMSNorm over each head with a gain that the heads share, as in Qwen 3 (OLMo 2 takes it over all heads at once).

    Args:
        d_model: the width.
        num_heads: heads of the queries.
        options: see `AttentionOptions`.

    Raises:
        UserError: `num_heads` does not divide `d_model`, or `num_kv_heads` does not divide `num_heads`.
    """

    kind: ClassVar[str] = "attention"

    def __init__(self, d_model: int, num_heads: int, options: AttentionOptions | None = None) -> None:
        super().__init__()
        options = options or AttentionOptions()
        kv_heads = num_heads if options.num_kv_heads is None else options.num_kv_heads
        check_at_least("d_model", d_model, 1)
        check_heads(d_model, num_heads, kv_heads)
        self.d_model, self.d_head = d_model, d_model // num_heads
        self.num_heads, self.num_kv_heads = num_heads, kv_heads
        self.dropout, self.output_dropout = options.dropout, options.output_dropout
        self.q_proj = nn.Linear(d_model, d_model, bias=options.bias)
        self.k_proj = nn.Linear(d_model, kv_heads * self.d_head, bias=options.bias)
        self.v_proj = nn.Linear(d_model, kv_heads * self.d_head, bias=options.bias)
        self.o_proj = nn.Linear(d_model, d_model, bias=options.bias)
        normed = options.qk_norm == "rms"
        self.q_norm: nn.Module = RMSNorm(self.d_head) if normed else nn.Identity()
        self.k_norm: nn.Module = RMSNorm(self.d_head) if normed else nn.Identity()
        self.rotary = Rotary(self.d_head, options.rotary_base) if options.rotary else None
        self.kernel, self.window, self.built_for = options.kernel, options.window, options.inside
        self.inside = Parts(options.inside, self._places())

    def value_paths(self) -> list[tuple[nn.Linear, ...]]:
        """The linears from input to output projection: values, output."""
        return [(self.v_proj, self.o_proj)]

    def stream_weights(self) -> tuple[list[Tensor], list[Tensor]]:
        """The weights whose rows are vectors of the stream, and those whose columns are."""
        return [self.q_proj.weight, self.k_proj.weight, self.v_proj.weight], [self.o_proj.weight]

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"] | Views, context: Context | None = None
    ) -> Float[Tensor, "batch tokens d_model"]:
        """Each token's mixture of the values it may attend to."""
        context, views = context or Context(), views_of(x)
        for view in views if isinstance(x, Views) else (x,):
            check_vectors("what attends", view, self.d_model)
        if context.cache is not None and (output := self._of_one_token(views, context)) is not None:
            return output
        if (output := self._whole(views, context)) is not None:
            return F.dropout(output, self.output_dropout, self.training) if self.output_dropout else output
        passed = context.passed_between(self.kind)
        heads = Views(self._queries(views.query, passed), *self._keys_and_values(views, passed))
        if self.kernel in ("sliding-window", "linear") and context.mask is not None:
            raise UserError(
                f"{self.kernel} attention takes no attention mask, only causality and padding; "
                "leave the mask out, or build the model with attention='fused'."
            )
        mixing = {"sliding-window": self._near, "linear": self._linear}.get(self.kernel, self._full)
        return self._output(mixing(heads, context, passed), passed)

    def _of_one_token(self, views: Views, context: Context) -> Tensor | None:
        if self.training or not self._is_plain():
            return None
        linears = (self.q_proj, self.k_proj, self.v_proj, self.o_proj)
        return attention_of_one(self, linears, self.rotary, views, context)

    def _whole(self, views: Views, context: Context) -> Tensor | None:
        if (self.training and self.dropout) or self.num_heads != self.num_kv_heads or not self._is_plain():
            return None
        linears = (self.q_proj, self.k_proj, self.v_proj, self.o_proj)
        return attention_whole(linears, self.num_heads, self.rotary, views, context)

    def _is_plain(self) -> bool:
        """Whether it is softmax attention without parts of a scheme or norms of its own."""
        normed = not all(is_only(norm, nn.Identity) for norm in (self.q_norm, self.k_norm))
        return self.kernel == "fused" and not len(self.inside) and not normed

    def _full(self, heads: Views, context: Context, passed: dict[str, Tensor]) -> Tensor:
        query, key, value = self._turned(heads, context, passed)
        if context.cache is not None:
            key, value = context.cache.append(self, key, value)
        direct = self.kernel == "fused" and context.mask is None and context.keep is None
        direct = direct and query.shape[2] == key.shape[2]
        mask = None if direct else attention_mask(context.mask, context.keep, context.causal, query, key)
        return self._mix(Views(query, key, value), mask, passed, causal=direct and context.causal)

    def _near(self, heads: Views, context: Context, passed: dict[str, Tensor]) -> Tensor:
        query, key, value = self._turned(heads, context, passed)
        assert self.window is not None
        keep = self._keep(key, context)
        if context.cache is not None:
            key, value = context.cache.append(self, key, value, self.window)
        keep = keep if keep is None else keep[:, -key.shape[2] :]
        reach = reach_of(self.window, causal=context.causal)
        return window_mixture(Views(query, key, value), keep, reach, self.dropout if self.training else 0.0)

    def _linear(self, heads: Views, context: Context, passed: dict[str, Tensor]) -> Tensor:
        # Parts at "turned" come before phi: after it there is no vector that numerator and denominator share.
        query, key = (self.inside.at("turned", x, passed) for x in heads[:2])
        positions, keep = self._positions(query, context), self._keep(key, context)
        state = None if context.cache is None else context.cache.state(self, key)

        def turn(query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
            return (query, key) if self.rotary is None else self.rotary(query, key, positions)

        keep = keep if keep is None else keep[:, -key.shape[2] :]
        mixed, left = linear_mixture(Views(query, key, heads.value), turn, keep, context.causal, state)
        if context.cache is not None:
            context.cache.replace(self, left, key.shape[2])
        return mixed

    def _turned(self, heads: Views, context: Context, passed: dict[str, Tensor]) -> Views:
        query, key, value = heads
        if self.rotary is not None:
            query, key = self.rotary(query, key, self._positions(query, context))
        if "turned" in self.inside.places:
            query, key = self.inside.at("turned", query, passed), self.inside.at("turned", key, passed)
        return Views(query, key, value)

    def _keep(self, key: Tensor, context: Context) -> Tensor | None:
        """Which tokens are real, those included that a cache has seen and need not hold."""
        if context.keep is not None:
            earlier = context.cache.length(self) if context.cache is not None else 0
            check_keep(context.keep, (key.shape[0], earlier + key.shape[2]))
        return context.keep

    def _places(self) -> dict[str, PlaceShape]:
        """The places of `Inside` in this layer."""
        whole = PlaceShape(heads=0, width=self.d_model, d_model=self.d_model)
        own = replace(whole, heads=self.num_heads, width=self.d_head)
        shared = replace(own, heads=self.num_kv_heads)
        return {
            **dict.fromkeys(("query", "heads", "scores"), own),
            **dict.fromkeys(("key", "value", "turned"), shared),
            "joined": whole,
        }

    def _positions(self, query: Tensor, context: Context) -> Tensor:
        if context.positions is not None:
            return context.positions
        start = context.cache.length(self) if context.cache is not None else 0
        return torch.arange(start, start + query.shape[2], device=query.device)

    def _mix(self, heads: Views, mask: Tensor | None, passed: dict[str, Tensor], *, causal: bool) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        if self.kernel == "fused":
            return fused_mixture(heads, mask, causal=causal, dropout=dropout)
        scores = self.inside.at("scores", attention_scores(heads.query, heads.key), passed)
        return mixture_by_scores(scores, heads.value, mask, dropout)

    def _output(self, mixed: Tensor, passed: dict[str, Tensor]) -> Tensor:
        if "heads" in self.inside.places:
            mixed = self.inside.at("heads", mixed, passed)
        joined = mixed.transpose(1, 2).flatten(2)
        if "joined" in self.inside.places:
            joined = self.inside.at("joined", joined, passed)
        output = mapped(self.o_proj, joined)
        return F.dropout(output, self.output_dropout, self.training) if self.output_dropout else output

    def _queries(self, x: Tensor, passed: dict[str, Tensor]) -> Tensor:
        query = self.q_norm(mapped(self.q_proj, x).unflatten(-1, (-1, self.d_head)).transpose(1, 2))
        return self.inside.at("query", query, passed) if "query" in self.inside.places else query

    def _keys_and_values(self, views: Views, passed: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        key = self.k_norm(mapped(self.k_proj, views.key).unflatten(-1, (-1, self.d_head)).transpose(1, 2))
        value = mapped(self.v_proj, views.value).unflatten(-1, (-1, self.d_head)).transpose(1, 2)
        key = self.inside.at("key", key, passed) if "key" in self.inside.places else key
        return key, self.inside.at("value", value, passed) if "value" in self.inside.places else value


class CrossAttention(Attention):
    """Attention from each token to the encoder's output.

    Queries come from the tokens, keys and values from `context.memory`: `softmax(q k^T / sqrt(d_head) + mask) v`.
    Vaswani et al. 2017, arXiv:1706.03762. Positions are not turned: the memory has its own. With a cache the memory's
    keys and values are computed once, in the first call. It is always full: a token of the memory is near to none of
    these, and the memory is there to be chosen from.

    Raises:
        UserError: as `Attention`, or the options ask for rotary positions, a sliding window or linear attention.
    """

    kind: ClassVar[str] = "cross-attention"

    def __init__(self, d_model: int, num_heads: int, options: AttentionOptions | None = None) -> None:
        super().__init__(d_model, num_heads, options)
        if self.rotary is not None:
            raise UserError("cross-attention has no rotary positions; leave rotary=False.")
        if self.kernel not in ("fused", "plain"):
            raise UserError(f"cross-attention is always full; kernel='{self.kernel}' came, give 'fused' or 'plain'.")

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"] | Views, context: Context | None = None
    ) -> Float[Tensor, "batch tokens d_model"]:
        """Each token's mixture of the memory's values."""
        context, tokens = context or Context(), views_of(x).query
        check_vectors("what attends", tokens, self.d_model)
        if context.memory is None:
            raise UserError("cross-attention got no memory; hand the encoder's output in Context(memory=...).")
        passed = context.passed_between(self.kind)
        query = self.inside.at("turned", self._queries(tokens, passed), passed)
        key, value = self._memory(context, context.memory, tokens.shape[0])
        mask = attention_mask(context.memory_mask, context.memory_keep, False, query, key)
        return self._output(self._mix(Views(query, key, value), mask, passed, causal=False), passed)

    def _memory(self, context: Context, memory: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        """Keys and values of the memory; computed once when there is a cache."""
        if context.cache is not None and context.cache.length(self):
            return context.cache.stored(self)
        check_vectors("the memory", memory, self.d_model)
        if memory.shape[0] != batch:
            raise UserError(f"cross-attention got {batch} rows of tokens and {memory.shape[0]} rows of memory.")
        passed = context.passed_between(self.kind)
        key, value = self._keys_and_values(views_of(memory), passed)
        key = self.inside.at("turned", key, passed)
        return context.cache.append(self, key, value) if context.cache is not None else (key, value)


def check_vectors(name: str, x: Tensor, d_model: int) -> None:
    """Refuse what is not rows of vectors of the width.

    Raises:
        UserError: with both shapes.
    """
    if x.dim() != 3 or x.shape[-1] != d_model:
        raise UserError(f"{name} has shape {tuple(x.shape)}; give (batch, tokens, {d_model}).")
