"""Tiny random models of many makers, each with a batch that it runs on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

VOCAB, WIDTH = 50, 32
SIZE = {
    "vocab_size": VOCAB,
    "hidden_size": WIDTH,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
}
EXPERTS = {
    "head_dim": 8,
    "moe_intermediate_size": 16,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LINEAR = {
    "head_dim": 8,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "num_experts_per_tok": 2,
    "num_experts": 4,
}
GROUPED = SIZE | {"num_key_value_heads": 2, "head_dim": 8}


def ids(tokens: int = 8) -> Tensor:
    """Two sentences."""
    return torch.randint(3, VOCAB, (2, tokens), generator=torch.Generator().manual_seed(1))


def hugging_face(model: str, config: str, batch: dict[str, Any] | None = None, **size: Any) -> tuple[nn.Module, Any]:
    """A model of transformers from a configuration alone."""
    import transformers

    torch.manual_seed(0)
    made = getattr(transformers, model)(getattr(transformers, config)(**size))
    return made, {"input_ids": ids()} if batch is None else batch


def _to_and_fro() -> dict[str, Any]:
    return {"input_ids": ids(), "decoder_input_ids": ids(5)}


def torch_encoder(norm_first: bool) -> tuple[nn.Module, Any]:
    """`torch.nn.TransformerEncoder`; in evaluation it would take its fused path."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(WIDTH, 4, 64, batch_first=True, norm_first=norm_first)
    norm = nn.LayerNorm(WIDTH) if norm_first else None
    return nn.TransformerEncoder(layer, 3, norm=norm, enable_nested_tensor=not norm_first), torch.randn(2, 8, WIDTH)


def x_transformers() -> tuple[nn.Module, Any]:
    """A decoder of x-transformers."""
    from x_transformers import Decoder, TransformerWrapper

    torch.manual_seed(0)
    layers = Decoder(dim=WIDTH, depth=3, heads=4, attn_dim_head=8)
    return TransformerWrapper(num_tokens=VOCAB, max_seq_len=16, attn_layers=layers), ids()


class ByHand(nn.Module):
    """A decoder whose layers are lines of one forward: no module is called."""

    def __init__(self, layers: int = 3) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = nn.Parameter(torch.randn(VOCAB, WIDTH, generator=generator))
        shapes = [(3 * WIDTH, WIDTH), (WIDTH, WIDTH), (4 * WIDTH, WIDTH), (WIDTH, 4 * WIDTH)]
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(*shape, generator=generator) * shape[1] ** -0.5)
            for _ in range(layers)
            for shape in shapes
        )

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table[tokens]
        batch, length, _ = x.shape
        future = torch.full((length, length), float("-inf")).triu(1)
        for i in range(0, len(self.weights), 4):
            inside, out, up, down = self.weights[i : i + 4]
            split = [y.view(batch, length, 4, -1).transpose(1, 2) for y in (_rms(x) @ inside.t()).chunk(3, -1)]
            scores = split[0] @ split[1].transpose(-1, -2) * 8**-0.5 + future
            mixed = (scores.softmax(-1) @ split[2]).transpose(1, 2).reshape(batch, length, -1)
            x = x + mixed @ out.t()
            y = torch.relu(_rms(x) @ up.t()) @ down.t()
            y += x
            x = y
        return _rms(x) @ self.table.t()


def _rms(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


def by_hand() -> tuple[nn.Module, Any]:
    """A decoder of plain functions."""
    return ByHand(), ids()


def addnorms(scheme: str) -> tuple[nn.Module, Any]:
    """A decoder of addnorm's own, its connections moved from where every stream and every weight is alike."""
    import addnorm

    model = addnorm.Transformer(
        addnorm.schemes.parse(scheme), vocab_size=VOCAB, d_model=WIDTH, num_heads=4, num_layers=3, attention="plain"
    )
    return moved(model, ("connection", "exit")), ids()


def moved(model: nn.Module, names: tuple[str, ...]) -> nn.Module:
    """The same model with noise on the parameters that have one of these in their names."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(part in name for part in names):
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model


def of_streams(model: str, config: str, **size: Any) -> tuple[nn.Module, Any]:
    """A model of transformers whose mixing of streams or of depths is moved from where it starts."""
    size = {"vocab_size": VOCAB, "hidden_size": WIDTH, "num_attention_heads": 4, "num_hidden_layers": 3} | size
    made, batch = hugging_face(model, config, **size)
    return moved(made, ("hc.", "hc_", "hyper_connection", "altup", "query")), batch


Make = Callable[[], tuple[nn.Module, Any]]
MODELS: dict[str, Make] = {
    "llama": lambda: hugging_face("LlamaForCausalLM", "LlamaConfig", **GROUPED),
    "qwen3": lambda: hugging_face("Qwen3ForCausalLM", "Qwen3Config", **GROUPED),
    "gpt2": lambda: hugging_face(
        "GPT2LMHeadModel", "GPT2Config", vocab_size=VOCAB, n_embd=WIDTH, n_layer=3, n_head=4, n_positions=16
    ),
    "bert": lambda: hugging_face("BertForMaskedLM", "BertConfig", **SIZE),
    "gemma2": lambda: hugging_face("Gemma2ForCausalLM", "Gemma2Config", **GROUPED),
    "olmo2": lambda: hugging_face("Olmo2ForCausalLM", "Olmo2Config", **SIZE),
    "gpt_neox": lambda: hugging_face("GPTNeoXForCausalLM", "GPTNeoXConfig", **SIZE, use_parallel_residual=False),
    "gpt_neox, parallel": lambda: hugging_face("GPTNeoXForCausalLM", "GPTNeoXConfig", **SIZE),
    "cohere": lambda: hugging_face("CohereForCausalLM", "CohereConfig", **SIZE),
    "t5": lambda: hugging_face(
        "T5ForConditionalGeneration",
        "T5Config",
        _to_and_fro(),
        vocab_size=VOCAB,
        d_model=WIDTH,
        d_ff=64,
        d_kv=8,
        num_layers=2,
        num_heads=4,
    ),
    "bart": lambda: hugging_face(
        "BartForConditionalGeneration",
        "BartConfig",
        _to_and_fro(),
        vocab_size=VOCAB,
        d_model=WIDTH,
        max_position_embeddings=16,
        **{
            f"{side}_{size}": n
            for side in ("encoder", "decoder")
            for size, n in (("layers", 2), ("ffn_dim", 64), ("attention_heads", 4))
        },
    ),
    "vit": lambda: hugging_face(
        "ViTForImageClassification",
        "ViTConfig",
        {"pixel_values": torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))},
        image_size=16,
        patch_size=8,
        **{name: size for name, size in SIZE.items() if name != "vocab_size"},
    ),
    "torch, Pre-LN": lambda: torch_encoder(True),
    "torch, Post-LN": lambda: torch_encoder(False),
    "x-transformers": x_transformers,
    "by hand": by_hand,
    "deepseek_v4": lambda: of_streams(
        "DeepseekV4ForCausalLM",
        "DeepseekV4Config",
        **EXPERTS,
        **{"q_lora_rank": 16, "o_groups": 2, "o_lora_rank": 8, "layer_types": ["sliding_attention"] * 3},
    ),
    "hy_v4": lambda: of_streams(
        "HYV4ForCausalLM",
        "HYV4Config",
        **EXPERTS,
        **{"intermediate_size": 64, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8},
        **{"qk_rope_head_dim": 8, "v_head_dim": 8, "index_topk": 4, "index_head_dim": 16, "index_n_heads": 2},
    ),
    "qwen4_exp": lambda: of_streams(
        "Qwen4ExpForCausalLM",
        "Qwen4ExpTextConfig",
        **LINEAR | {"num_hidden_layers": 4, "num_key_value_heads": 2, "hc_lowrank": 8},
        **{"indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 8, "indexer_budget": 4},
        **{"indexer_compress_ratio": 2},
    ),
    "gemma3n": lambda: of_streams(
        "Gemma3nForCausalLM",
        "Gemma3nTextConfig",
        **{"intermediate_size": 64, "vocab_size_per_layer_input": VOCAB, "hidden_size_per_layer_input": 8},
        **{"num_kv_shared_layers": 0, "laurel_rank": 4, "activation_sparsity_pattern": [0.0] * 3},
        **{"layer_types": ["sliding_attention", "sliding_attention", "full_attention"]},
        **{"num_key_value_heads": 2, "head_dim": 8},
    ),
    "inkling2": lambda: of_streams(
        "Inkling2ForCausalLM",
        "Inkling2TextConfig",
        **EXPERTS | {"num_hidden_layers": 4, "layer_types": ["hybrid_sliding", "hybrid"] * 2},
        **{"unpadded_vocab_size": VOCAB, "num_key_value_heads": 2, "swa_num_attention_heads": 4},
        **{"swa_num_key_value_heads": 2, "swa_head_dim": 8, "d_rel": 4, "rel_extent": 16},
        **{"n_layers_per_attn_res_block": 2},
    ),
    "pre-norm": lambda: addnorms("pre-norm"),
    "post-norm": lambda: addnorms("post-norm"),
    "mhc": lambda: addnorms("mhc"),
    "attention-residuals": lambda: addnorms("attention-residuals"),
    "block-attention-residuals": lambda: addnorms("block-attention-residuals(num_blocks=2)"),
    "dense-former": lambda: addnorms("dense-former"),
}


NARROW = {"vocab_size": VOCAB, "n_layer": 3, "n_head": 4}
MORE = {
    "mistral": ("MistralForCausalLM", "MistralConfig", GROUPED),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", SIZE | {"num_key_value_heads": 4}),
    "phi": ("PhiForCausalLM", "PhiConfig", SIZE),
    "granite": ("GraniteForCausalLM", "GraniteConfig", SIZE),
    "smollm3": ("SmolLM3ForCausalLM", "SmolLM3Config", GROUPED | {"pad_token_id": 0}),
    "roberta": ("RobertaForMaskedLM", "RobertaConfig", SIZE),
    "albert": ("AlbertForMaskedLM", "AlbertConfig", SIZE | {"embedding_size": 16}),
    "electra": ("ElectraForPreTraining", "ElectraConfig", SIZE),
    "gptj": (
        "GPTJForCausalLM",
        "GPTJConfig",
        {"vocab_size": VOCAB, "n_embd": WIDTH, "n_layer": 3, "n_head": 4, "rotary_dim": 8},
    ),
    "bloom": (
        "BloomForCausalLM",
        "BloomConfig",
        {"vocab_size": VOCAB, "hidden_size": WIDTH, "n_layer": 3, "n_head": 4},
    ),
    "mpt": ("MptForCausalLM", "MptConfig", {"vocab_size": VOCAB, "d_model": WIDTH, "n_layers": 3, "n_heads": 4}),
    "falcon": ("FalconForCausalLM", "FalconConfig", {name: SIZE[name] for name in SIZE if name != "intermediate_size"}),
    "gemma": ("GemmaForCausalLM", "GemmaConfig", GROUPED),
    "gemma3": ("Gemma3ForCausalLM", "Gemma3TextConfig", GROUPED),
    "mixtral": ("MixtralForCausalLM", "MixtralConfig", GROUPED | {"num_local_experts": 4}),
    "glm4": ("Glm4ForCausalLM", "Glm4Config", GROUPED | {"pad_token_id": 0}),
    "starcoder2": ("Starcoder2ForCausalLM", "Starcoder2Config", SIZE),
}
"""Further families, by class, config and size."""
SOUND = MODELS | {
    name: lambda made=made: hugging_face(made[0], made[1], **made[2])  # type: ignore[misc]
    for name, made in MORE.items()
}
"""All of them."""
