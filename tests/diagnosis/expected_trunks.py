"""What there is to find in each of `models_of_others`."""

from __future__ import annotations

from typing import Any

from addnorm.diagnosis.trunk import Sublayer


def layers(*written: str, count: int = 3, **common: Any) -> list[Sublayer]:
    """Sublayers of `count` equal layers.

    Args:
        written: one a sublayer: "name kind", then "before=", "after=", "trunk=" with the names of norms; names lie
            in `block`, whose "{}" is the layer's number.
        common: that block, and `kinds`: what "{}" in a line is, layer by layer and round again.
    """
    block, kinds, found = common["block"], common.get("kinds", ("",)), []
    for layer in range(count):
        here = block.format(layer)
        for line in written:
            name, kind, *norms = line.format(kinds[layer % len(kinds)]).split()
            named = dict(norm.split("=") for norm in norms)
            fields = {"before": "norm_before", "after": "norm_after", "trunk": "norm_on_trunk"}
            found.append(
                Sublayer(
                    index=len(found),
                    name=f"{here}.{name}",
                    block=here,
                    kind=kind,  # type: ignore[arg-type]
                    **{fields[place]: f"{here}.{norm}" for place, norm in named.items()},
                )
            )
    return found


LLAMA = ("self_attn attention before=input_layernorm", "mlp feedforward before=post_attention_layernorm")
GEMMA2 = (
    "self_attn attention before=input_layernorm after=post_attention_layernorm",
    "mlp feedforward before=pre_feedforward_layernorm after=post_feedforward_layernorm",
)
NEOX = ("attention attention before=input_layernorm", "mlp feedforward before=post_attention_layernorm")
BART = ("self_attn attention trunk=self_attn_layer_norm", "fc2 feedforward trunk=final_layer_norm")

# By model, each trunk: name, final norm, head, sublayers.
EXPECTED: dict[str, list[tuple[str, str | None, str | None, list[Sublayer]]]] = {
    "llama": [("model", "model.norm", "lm_head", layers(*LLAMA, block="model.layers.{}"))],
    "qwen3": [("model", "model.norm", "lm_head", layers(*LLAMA, block="model.layers.{}"))],
    "gpt2": [
        (
            "transformer",
            "transformer.ln_f",
            "lm_head",
            layers("attn attention before=ln_1", "mlp feedforward before=ln_2", block="transformer.h.{}"),
        )
    ],
    "bert": [
        (
            "bert.encoder",
            None,
            None,
            layers(
                "attention.output.dense attention trunk=attention.output.LayerNorm",
                "output.dense feedforward trunk=output.LayerNorm",
                block="bert.encoder.layer.{}",
            ),
        )
    ],
    "gemma2": [("model", "model.norm", "lm_head", layers(*GEMMA2, block="model.layers.{}"))],
    "olmo2": [
        (
            "model",
            "model.norm",
            "lm_head",
            layers(
                "self_attn attention after=post_attention_layernorm",
                "mlp feedforward after=post_feedforward_layernorm",
                block="model.layers.{}",
            ),
        )
    ],
    "gpt_neox": [("gpt_neox", "gpt_neox.final_layer_norm", "lm_head", layers(*NEOX, block="gpt_neox.layers.{}"))],
    "cohere": [
        (
            "model",
            "model.norm",
            "lm_head",
            layers(
                "self_attn attention before=input_layernorm",
                "mlp feedforward before=input_layernorm",
                block="model.layers.{}",
            ),
        )
    ],
    "t5": [
        (
            "encoder",
            "encoder.final_layer_norm",
            None,
            layers(
                "layer.0.SelfAttention attention before=layer.0.layer_norm",
                "layer.1.DenseReluDense feedforward before=layer.1.layer_norm",
                block="encoder.block.{}",
                count=2,
            ),
        ),
        (
            "decoder",
            "decoder.final_layer_norm",
            "lm_head",
            layers(
                "layer.0.SelfAttention attention before=layer.0.layer_norm",
                "layer.1.EncDecAttention cross-attention before=layer.1.layer_norm",
                "layer.2.DenseReluDense feedforward before=layer.2.layer_norm",
                block="decoder.block.{}",
                count=2,
            ),
        ),
    ],
    "bart": [
        ("model.encoder", None, None, layers(*BART, block="model.encoder.layers.{}", count=2)),
        (
            "model.decoder",
            None,
            "lm_head",
            layers(
                BART[0],
                "encoder_attn cross-attention trunk=encoder_attn_layer_norm",
                BART[1],
                block="model.decoder.layers.{}",
                count=2,
            ),
        ),
    ],
    "vit": [
        (
            "vit",
            "vit.layernorm",
            "classifier",
            layers(
                "attention attention before=layernorm_before",
                "mlp feedforward before=layernorm_after",
                block="vit.layers.{}",
            ),
        )
    ],
    "torch, Pre-LN": [
        (
            "",
            "norm",
            None,
            layers("self_attn attention before=norm1", "linear2 feedforward before=norm2", block="layers.{}"),
        )
    ],
    "torch, Post-LN": [
        (
            "",
            None,
            None,
            layers("self_attn attention trunk=norm1", "linear2 feedforward trunk=norm2", block="layers.{}"),
        )
    ],
    "x-transformers": [
        (
            "attn_layers",
            "attn_layers.final_norm",
            "to_logits",
            [
                Sublayer(
                    index=i,
                    name=f"attn_layers.layers.{i}.1",
                    block=f"attn_layers.layers.{i}",
                    kind="feedforward" if i % 2 else "attention",
                    norm_before=f"attn_layers.layers.{i}.0.0",
                )
                for i in range(6)
            ],
        )
    ],
    "by hand": [
        (
            "",
            "",
            None,
            [
                Sublayer(index=i, name="", kind="feedforward" if i % 2 else "attention", norm_before="")
                for i in range(6)
            ],
        )
    ],
}
EXPECTED["gpt_neox, parallel"] = EXPECTED["gpt_neox"]
OWN = layers("sublayer {} before=connection.norm", block="stack.blocks.{}", count=6, kinds=("attention", "feedforward"))
OWN_POST = layers(
    "sublayer {} trunk=connection.norm", block="stack.blocks.{}", count=6, kinds=("attention", "feedforward")
)
EXPECTED |= {
    "deepseek_v4": [("model", "model.norm", "lm_head", layers(*LLAMA, block="model.layers.{}"))],
    "hy_v4": [("model", "model.norm", "lm_head", layers(*LLAMA, block="model.layers.{}"))],
    "qwen4_exp": [
        (
            "model",
            "model.hyper_connection_mixer.hc_norm",
            "lm_head",
            layers(
                "{} attention before=attn_hyper_connection.hc_norm",
                "mlp feedforward before=mlp_hyper_connection.hc_norm",
                block="model.layers.{}",
                count=4,
                kinds=("linear_attn", "linear_attn", "linear_attn", "self_attn"),
            ),
        )
    ],
    "gemma3n": [
        (
            "model",
            "model.norm",
            "lm_head",
            layers(
                GEMMA2[0],
                "laurel other before=input_layernorm",
                GEMMA2[1],
                "per_layer_projection feedforward after=post_per_layer_input_norm",
                block="model.layers.{}",
            ),
        )
    ],
    "inkling2": [
        (
            "model",
            "model.norm",
            "lm_head",
            layers(
                "self_attn attention before={}input_layernorm",
                LLAMA[1],
                block="model.layers.{}",
                count=4,
                kinds=("", "q_"),
            ),
        )
    ],
    "pre-norm": [("stack", "stack.exit.norm", "head", OWN)],
    "post-norm": [("stack", None, "head", OWN_POST)],
    "mhc": [("stack", "stack.exit.norm", "head", OWN)],
    "attention-residuals": [("stack", "stack.exit.norm", "head", OWN)],
    "block-attention-residuals": [("stack", "stack.exit.norm", "head", OWN)],
    "dense-former": [("stack", "stack.exit.norm", "head", OWN)],
}

# Layout, streams, where; of all others one stream alone.
LAYOUTS: dict[str, tuple[str, int, str]] = {
    "deepseek_v4": ("streams", 4, "own axis"),
    "hy_v4": ("streams", 4, "own axis"),
    "qwen4_exp": ("streams", 4, "features"),
    "gemma3n": ("streams", 4, "first axis"),
    "inkling2": ("depth attention", 3, "alone"),  # the embedding and two sums of two layers each
    "mhc": ("streams", 4, "own axis"),
    "attention-residuals": ("depth attention", 7, "alone"),
    "block-attention-residuals": ("depth attention", 3, "alone"),
    "dense-former": ("depth attention", 4, "alone"),
}
