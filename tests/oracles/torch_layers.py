"""Post-LN and Pre-LN against torch.nn: layer, encoder and the full Transformer."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from addnorm import EncoderDecoder, Stack, schemes
from addnorm.layers.attention import Attention
from addnorm.layers.context import Context
from addnorm.layers.feedforward import FeedForward
from oracles.case import HEADS, INNER, TOKENS, WIDTH, Case, Layers, our_stack, padding, triangle, vectors
from oracles.ties import Pair, Tie, randomise_, tied, tied_fused

NORM_FIRST = {"pre-norm": True, "post-norm": False}
MASKS = {
    "no mask": (Context(), {}),
    "boolean causal mask": (Context(causal=True), {"mask": ~triangle()}),
    "additive mask": (
        Context(mask=(additive := torch.randn(TOKENS, TOKENS, generator=torch.Generator().manual_seed(4)))),
        {"mask": additive},
    ),
    "padding": (Context(keep=padding()), {"src_key_padding_mask": ~padding()}),
    "causal mask and padding": (
        Context(causal=True, keep=padding()),
        {"mask": ~triangle(), "src_key_padding_mask": ~padding()},
    ),
}
OURS_KEEP_A_FINAL_NORM = {"pre-norm": True, "post-norm": False}


def attention_ties(ours: Attention, theirs: nn.MultiheadAttention) -> list[Tie]:
    """Queries, keys and values are fused in theirs."""
    fused = tied_fused((ours.q_proj, ours.k_proj, ours.v_proj), theirs.in_proj_weight, theirs.in_proj_bias)
    return fused + tied(ours.o_proj, theirs.out_proj)


def layer_ties(blocks: list[nn.Module], theirs: nn.Module) -> list[Tie]:
    """One layer of ours (two blocks, or three with cross-attention) and of theirs."""
    attentions = [theirs.self_attn] + ([theirs.multihead_attn] if len(blocks) == 3 else [])
    norms = [theirs.norm1, theirs.norm2, theirs.norm3] if len(blocks) == 3 else [theirs.norm1, theirs.norm2]
    found = [tie for b, norm in zip(blocks, norms, strict=True) for tie in tied(b.connection.norm, norm)]
    for block, attention in zip(blocks, attentions, strict=False):
        found += attention_ties(block.sublayer, attention)
    feedforward: FeedForward = blocks[-1].sublayer
    return found + tied(feedforward.fc1, theirs.linear1) + tied(feedforward.fc2, theirs.linear2)


def stack_ties(ours: Stack, theirs: nn.Module) -> list[Tie]:
    """A stack of ours and a `TransformerEncoder` or `TransformerDecoder`."""
    size = len(ours.blocks) // len(theirs.layers)
    found = [] if theirs.norm is None else tied(ours.exit.norm, theirs.norm)
    for i, layer in enumerate(theirs.layers):
        found += layer_ties(list(ours.blocks[i * size : (i + 1) * size]), layer)
    return found


def their_layer(kind: type[nn.Module], scheme: str, activation: str, dtype: torch.dtype) -> nn.Module:
    return kind(WIDTH, HEADS, INNER, 0.0, activation, batch_first=True, norm_first=NORM_FIRST[scheme], dtype=dtype)


def their_norm(scheme: str, dtype: torch.dtype) -> nn.LayerNorm | None:
    return nn.LayerNorm(WIDTH, dtype=dtype) if OURS_KEEP_A_FINAL_NORM[scheme] else None


def encoder(scheme: str, layers: int, activation: str, masks: str, dtype: torch.dtype) -> Pair:
    """`TransformerEncoder` of `TransformerEncoderLayer`s."""
    ours = our_stack(scheme, dtype, Layers(layers=layers, activation=activation))
    layer = their_layer(nn.TransformerEncoderLayer, scheme, activation, dtype)
    theirs = nn.TransformerEncoder(layer, layers, their_norm(scheme, dtype), enable_nested_tensor=False)
    context, their_masks = MASKS[masks]
    their_masks = {k: m.to(dtype) if m.is_floating_point() else m for k, m in their_masks.items()}
    return Pair(
        ours=ours,
        theirs=theirs,
        ties=stack_ties(ours, theirs),
        inputs=(vectors(dtype),),
        run_ours=lambda x: ours(x, context),
        run_theirs=lambda x: theirs(x, **their_masks),
    )


def whole_transformer(scheme: str, dtype: torch.dtype) -> Pair:
    """`torch.nn.Transformer`: two encoder and three decoder layers, source and target padded, the target causal."""
    ours = EncoderDecoder(
        schemes.get(scheme)(),
        vocab_size=1,
        d_model=WIDTH,
        num_heads=HEADS,
        num_layers=3,
        encoder_layers=2,
        d_ff=INNER,
        activation="relu",
        position="none",
    ).to(dtype)
    randomise_(ours)
    encoder_layer = their_layer(nn.TransformerEncoderLayer, scheme, "relu", dtype)
    decoder_layer = their_layer(nn.TransformerDecoderLayer, scheme, "relu", dtype)
    # By default theirs has a final norm even after Post-LN, whose stream is normalised already.
    theirs = nn.Transformer(
        WIDTH,
        HEADS,
        custom_encoder=nn.TransformerEncoder(encoder_layer, 2, their_norm(scheme, dtype), enable_nested_tensor=False),
        custom_decoder=nn.TransformerDecoder(decoder_layer, 3, their_norm(scheme, dtype)),
        batch_first=True,
    )
    source_keep, target_keep = padding(7), padding(TOKENS)

    def run_ours(source: Tensor, target: Tensor) -> Tensor:
        memory = ours.encoder(source, Context(keep=source_keep))
        context = Context(causal=True, keep=target_keep, memory=memory, memory_keep=source_keep)
        return ours.decoder(target, context)

    return Pair(
        ours=nn.ModuleList([ours.encoder, ours.decoder]),
        theirs=theirs,
        ties=stack_ties(ours.encoder, theirs.encoder) + stack_ties(ours.decoder, theirs.decoder),
        # A source at which float32 keeps 4e-6 under Post-LN. At other seeds the softmax over it is so sharp that the
        # gradients of queries are 1e-5 from float64 on both sides.
        inputs=(vectors(dtype, 7, seed=5), vectors(dtype)),
        run_ours=run_ours,
        run_theirs=partial(
            theirs,
            tgt_mask=~triangle(),
            src_key_padding_mask=~source_keep,
            tgt_key_padding_mask=~target_keep,
            memory_key_padding_mask=~source_keep,
        ),
    )


CASES = [
    Case(
        scheme=scheme,
        oracle="torch.nn.TransformerEncoder",
        what=f"{layers} layer{'s' * (layers > 1)}, {activation}, {masks}",
        build=partial(encoder, scheme, layers, activation, masks),
    )
    for scheme in NORM_FIRST
    for layers, activation, masks in (
        *((1, "relu", masks) for masks in MASKS),
        (3, "gelu", "causal mask and padding"),
    )
] + [
    Case(
        scheme=scheme,
        oracle="torch.nn.Transformer",
        what="2 + 3 layers, relu, padded source and target",
        build=partial(whole_transformer, scheme),
    )
    for scheme in NORM_FIRST
]
