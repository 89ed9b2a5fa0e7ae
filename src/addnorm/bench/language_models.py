"""Decoders of one shape, ours and those of peers, each with a training step of its own.

All have the same widths and heads, a GELU feed-forward four times as wide, causal attention, no dropout, the norm
before each sublayer and one after the last, and AdamW. What a library does by default beyond that stays: ours and
GPT-2 share the head's weights with the embedding; GPT-2 takes the tanh form of GELU; ours has rotary positions, the
others learned ones; x-transformers' attention has no biases and is not torch's fused one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from addnorm import schemes
from addnorm.bench.peers import TRANSFORMERS, X_TRANSFORMERS, installed
from addnorm.config import RunConfig
from addnorm.layers.cross_entropy import cross_entropy
from addnorm.models.decoder import Transformer
from addnorm.training.optimizer import Optimizer

LEARNING_RATE = 1e-4


@dataclass(frozen=True, kw_only=True)
class Size:
    """The shape of a decoder and of its batch."""

    d_model: int = 512
    num_layers: int = 8
    num_heads: int = 8
    vocab_size: int = 4096
    batch: int = 8
    context: int = 256

    def tokens(self) -> tuple[Tensor, Tensor]:
        """A batch of random ids and their targets."""
        generator = torch.Generator().manual_seed(0)
        rows = torch.randint(self.vocab_size, (self.batch, self.context + 1), generator=generator)
        return rows[:, :-1], rows[:, 1:]


Precision = Literal["float32", "bfloat16"]


def our_model(size: Size, scheme: str = "pre-norm") -> Transformer:
    """This library's decoder."""
    shape = {name: getattr(size, name) for name in ("vocab_size", "d_model", "num_heads", "num_layers")}
    return Transformer(schemes.parse(scheme), **shape)


def our_step(model: nn.Module, size: Size, precision: Precision = "float32") -> Callable[[], None]:
    """A training step as `addnorm train` takes it, without clipping: autocast, its loss, its AdamW."""
    optimizer, batch = Optimizer(model, RunConfig()), size.tokens()
    model.train()

    def step() -> None:
        loss(model, batch, precision).backward()
        optimizer.step(LEARNING_RATE)
        optimizer.clear_gradient()

    return step


def loss(model: nn.Module, batch: tuple[Tensor, Tensor], precision: Precision = "float32") -> Tensor:
    """The loss of our model."""
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        return cross_entropy(model(batch[0]), batch[1])


def their_step(model: Callable[[Tensor], Tensor], size: Size, precision: Precision) -> Callable[[], None]:
    """A training step with torch's loss and its fused AdamW, the fastest that torch has here."""
    assert isinstance(model, nn.Module)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)
    tokens, targets = size.tokens()
    model.train()

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            logits = model(tokens)
            value = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        value.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


class TorchDecoder(nn.Module):
    """`torch.nn.TransformerEncoder` between an embedding and a head."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        width = size.d_model
        self.tokens, self.positions = nn.Embedding(size.vocab_size, width), nn.Embedding(size.context, width)
        layer = nn.TransformerEncoderLayer(
            width, size.num_heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.body = nn.TransformerEncoder(layer, size.num_layers, norm=nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, size.vocab_size, bias=False)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(size.context))

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits."""
        embedded = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        return self.head(self.body(embedded, mask=self.mask, is_causal=True))


class Gpt2(nn.Module):
    """Transformers' GPT-2; called for its logits alone."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        from transformers import GPT2Config, GPT2LMHeadModel

        config = GPT2Config(
            vocab_size=size.vocab_size,
            n_positions=size.context,
            n_embd=size.d_model,
            n_layer=size.num_layers,
            n_head=size.num_heads,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=0,
            eos_token_id=None,
            pad_token_id=0,
        )
        self.model = GPT2LMHeadModel(config)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits; it has no use for a cache in training, and makes one if not told."""
        return self.model(tokens, use_cache=False).logits


def x_transformers(size: Size) -> nn.Module:
    """x-transformers' decoder."""
    from x_transformers import Decoder, TransformerWrapper

    layers = Decoder(
        dim=size.d_model, depth=size.num_layers, heads=size.num_heads, attn_dim_head=size.d_model // size.num_heads
    )
    return TransformerWrapper(num_tokens=size.vocab_size, max_seq_len=size.context, attn_layers=layers)


def peers(size: Size) -> dict[str, nn.Module]:
    """The decoders of those peers that are installed, by name."""
    found: dict[str, nn.Module] = {}
    if installed(X_TRANSFORMERS):
        found["x-transformers"] = x_transformers(size)
    if installed(TRANSFORMERS):
        found["transformers GPT-2"] = Gpt2(size)
    found["torch.nn.TransformerEncoder"] = TorchDecoder(size)
    return found
