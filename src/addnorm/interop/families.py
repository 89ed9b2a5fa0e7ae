"""Bodies of `transformers` that are ours exactly: their config's fields and their tensors' names, as reversible tables.

Import and export read the same rows, so they cannot drift apart. One more family is one more `Family` in `FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

REQUIRED = object()


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One choice, in their config and in ours.

    Args:
        theirs: the field of config.json.
        ours: the field of `addnorm.config.ModelConfig`, or "eps", which the scheme has.
        default: what a missing field of theirs means; `REQUIRED` where there is no default.
        values: their value for each of ours where they differ; the first of those that mean the same is written.
    """

    theirs: str
    ours: str
    default: Any = REQUIRED
    values: tuple[tuple[Any, Any], ...] = ()


@dataclass(frozen=True, kw_only=True)
class TensorPair:
    """One tensor of theirs and ours that hold the same numbers.

    Args:
        theirs: the name, `{layer}` in it.
        ours: the names, `{attention}` or `{feedforward}` (sites of a layer) in them; several are stored one under the
            other in one tensor of theirs.
        transposed: theirs is stored as (in, out).
    """

    theirs: str
    ours: tuple[str, ...]
    transposed: bool = False


@dataclass(frozen=True, kw_only=True)
class Family:
    """A body of `transformers`.

    Args:
        model_type: its name in config.json.
        architecture: the class that `save` names in config.json.
        body: which of our bodies it is.
        prefix: what tensor names may start with, or must when they are written.
        schemes: specifications that compute the same, `{eps}` in them; the first is the checkpoint's.
        settings: what the two configs translate.
        ours: fields of ours that the family has no choice about.
        theirs: what their config must say; the first is written.
        missing: what a missing field of those means, where that is not the first.
        rows: tensors outside the layers, then those of a layer.
        unused: beginnings of tensor names that our body has no place for, after the prefix is taken off.
        counts_padding: whether positions count from a row's first token, be it padding.
    """

    model_type: str
    architecture: str
    body: Literal["encoder", "decoder"]
    prefix: str
    schemes: tuple[str, ...]
    settings: tuple[Setting, ...]
    ours: Mapping[str, Any]
    theirs: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    missing: Mapping[str, Any] = field(default_factory=dict)
    rows: tuple[TensorPair, ...]
    unused: tuple[str, ...] = ()
    counts_padding: bool = False


def _both(theirs: str, *ours: str, transposed: bool = False) -> tuple[TensorPair, TensorPair]:
    """The rows of a weight and its bias."""
    return (
        TensorPair(theirs=f"{theirs}.weight", ours=tuple(f"{name}.weight" for name in ours), transposed=transposed),
        TensorPair(theirs=f"{theirs}.bias", ours=tuple(f"{name}.bias" for name in ours)),
    )


def _weights(pairs: Mapping[str, str]) -> tuple[TensorPair, ...]:
    """Rows of weights without biases."""
    return tuple(TensorPair(theirs=f"{theirs}.weight", ours=(f"{ours}.weight",)) for theirs, ours in pairs.items())


_ATTENTION, _FEEDFORWARD = "stack.blocks.{attention}", "stack.blocks.{feedforward}"
_ACTIVATIONS = (
    ("gelu", "gelu"),
    ("gelu_new", "gelu-tanh"),
    ("gelu_pytorch_tanh", "gelu-tanh"),
    ("relu", "relu"),
)
_BERT_LAYER = "encoder.layer.{layer}"

BERT = Family(
    model_type="bert",
    architecture="BertModel",
    body="encoder",
    prefix="bert.",
    schemes=("post-norm(entrance_norm=layer, eps={eps})",),
    settings=(
        Setting(theirs="vocab_size", ours="vocab_size"),
        Setting(theirs="hidden_size", ours="d_model"),
        Setting(theirs="num_hidden_layers", ours="num_layers"),
        Setting(theirs="num_attention_heads", ours="num_heads"),
        Setting(theirs="intermediate_size", ours="d_ff"),
        Setting(theirs="max_position_embeddings", ours="max_tokens"),
        Setting(theirs="type_vocab_size", ours="segments", default=2),
        Setting(theirs="hidden_act", ours="activation", default="gelu", values=_ACTIVATIONS),
        Setting(theirs="hidden_dropout_prob", ours="dropout", default=0.1),
        Setting(theirs="attention_probs_dropout_prob", ours="attention_dropout", default=0.1),
        Setting(theirs="layer_norm_eps", ours="eps", default=1e-12),
    ),
    ours={"position": "learned", "bias": True, "qk_norm": "none", "arrangement": "sequential"},
    theirs={
        "position_embedding_type": ("absolute",),
        "is_decoder": (False,),
        "add_cross_attention": (False,),
    },
    rows=(
        TensorPair(theirs="embeddings.word_embeddings.weight", ours=("embedding.tokens.weight",)),
        TensorPair(theirs="embeddings.position_embeddings.weight", ours=("embedding.positions.table.weight",)),
        TensorPair(theirs="embeddings.token_type_embeddings.weight", ours=("embedding.segments.weight",)),
        *_both("embeddings.LayerNorm", "stack.entrance"),
        *_both(f"{_BERT_LAYER}.attention.self.query", f"{_ATTENTION}.sublayer.q_proj"),
        *_both(f"{_BERT_LAYER}.attention.self.key", f"{_ATTENTION}.sublayer.k_proj"),
        *_both(f"{_BERT_LAYER}.attention.self.value", f"{_ATTENTION}.sublayer.v_proj"),
        *_both(f"{_BERT_LAYER}.attention.output.dense", f"{_ATTENTION}.sublayer.o_proj"),
        *_both(f"{_BERT_LAYER}.attention.output.LayerNorm", f"{_ATTENTION}.connection.norm"),
        *_both(f"{_BERT_LAYER}.intermediate.dense", f"{_FEEDFORWARD}.sublayer.fc1"),
        *_both(f"{_BERT_LAYER}.output.dense", f"{_FEEDFORWARD}.sublayer.fc2"),
        *_both(f"{_BERT_LAYER}.output.LayerNorm", f"{_FEEDFORWARD}.connection.norm"),
    ),
    unused=("pooler.", "cls.", "classifier.", "qa_outputs.", "embeddings.position_ids"),
    counts_padding=True,
)

_QKV = tuple(f"{_ATTENTION}.sublayer.{name}" for name in ("q_proj", "k_proj", "v_proj"))

GPT2 = Family(
    model_type="gpt2",
    architecture="GPT2LMHeadModel",
    body="decoder",
    prefix="transformer.",
    schemes=("gpt2-init(eps={eps})", "pre-norm(eps={eps})"),
    settings=(
        Setting(theirs="vocab_size", ours="vocab_size"),
        Setting(theirs="n_embd", ours="d_model"),
        Setting(theirs="n_layer", ours="num_layers"),
        Setting(theirs="n_head", ours="num_heads"),
        Setting(theirs="n_inner", ours="d_ff", default=None),
        Setting(theirs="n_positions", ours="max_tokens"),
        Setting(theirs="activation_function", ours="activation", default="gelu_new", values=_ACTIVATIONS),
        Setting(theirs="embd_pdrop", ours="dropout", default=0.1),
        Setting(theirs="resid_pdrop", ours="dropout", default=0.1),
        Setting(theirs="attn_pdrop", ours="attention_dropout", default=0.1),
        Setting(theirs="tie_word_embeddings", ours="tie_embeddings", default=True),
        Setting(theirs="layer_norm_epsilon", ours="eps", default=1e-5),
    ),
    ours={"position": "learned", "bias": True, "qk_norm": "none", "arrangement": "sequential", "segments": 0},
    theirs={
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
    },
    rows=(
        TensorPair(theirs="wte.weight", ours=("embedding.tokens.weight",)),
        TensorPair(theirs="wpe.weight", ours=("embedding.positions.table.weight",)),
        TensorPair(theirs="lm_head.weight", ours=("head.own.weight",)),
        *_both("ln_f", "stack.exit.norm"),
        *_both("h.{layer}.ln_1", f"{_ATTENTION}.connection.norm"),
        *_both("h.{layer}.attn.c_attn", *_QKV, transposed=True),
        *_both("h.{layer}.attn.c_proj", f"{_ATTENTION}.sublayer.o_proj", transposed=True),
        *_both("h.{layer}.ln_2", f"{_FEEDFORWARD}.connection.norm"),
        *_both("h.{layer}.mlp.c_fc", f"{_FEEDFORWARD}.sublayer.fc1", transposed=True),
        *_both("h.{layer}.mlp.c_proj", f"{_FEEDFORWARD}.sublayer.fc2", transposed=True),
    ),
    unused=("score.", "h.{layer}.attn.bias", "h.{layer}.attn.masked_bias"),
)

_LLAMA_LAYER = "layers.{layer}"

LLAMA = Family(
    model_type="llama",
    architecture="LlamaForCausalLM",
    body="decoder",
    prefix="model.",
    schemes=("pre-norm(norm=rms, eps={eps})", "gpt2-init(norm=rms, eps={eps})"),
    settings=(
        Setting(theirs="vocab_size", ours="vocab_size"),
        Setting(theirs="hidden_size", ours="d_model"),
        Setting(theirs="num_hidden_layers", ours="num_layers"),
        Setting(theirs="num_attention_heads", ours="num_heads"),
        Setting(theirs="num_key_value_heads", ours="num_kv_heads", default=None),
        Setting(theirs="intermediate_size", ours="d_ff"),
        Setting(theirs="max_position_embeddings", ours="max_tokens", default=2048),
        Setting(theirs="hidden_act", ours="activation", default="silu", values=(("silu", "swiglu"),)),
        Setting(theirs="attention_dropout", ours="attention_dropout", default=0.0),
        Setting(theirs="tie_word_embeddings", ours="tie_embeddings", default=False),
        Setting(theirs="rope_theta", ours="rotary_base", default=10000.0),
        Setting(theirs="rms_norm_eps", ours="eps", default=1e-6),
    ),
    ours={"position": "rotary", "bias": False, "qk_norm": "none", "arrangement": "sequential", "segments": 0},
    theirs={
        "attention_bias": (False,),
        "mlp_bias": (False,),
        "rope_type": ("default",),
        "pretraining_tp": (1,),
    },
    rows=(
        TensorPair(theirs="lm_head.weight", ours=("head.own.weight",)),
        *_weights(
            {
                "embed_tokens": "embedding.tokens",
                "norm": "stack.exit.norm",
                f"{_LLAMA_LAYER}.input_layernorm": f"{_ATTENTION}.connection.norm",
                f"{_LLAMA_LAYER}.self_attn.q_proj": f"{_ATTENTION}.sublayer.q_proj",
                f"{_LLAMA_LAYER}.self_attn.k_proj": f"{_ATTENTION}.sublayer.k_proj",
                f"{_LLAMA_LAYER}.self_attn.v_proj": f"{_ATTENTION}.sublayer.v_proj",
                f"{_LLAMA_LAYER}.self_attn.o_proj": f"{_ATTENTION}.sublayer.o_proj",
                f"{_LLAMA_LAYER}.post_attention_layernorm": f"{_FEEDFORWARD}.connection.norm",
                f"{_LLAMA_LAYER}.mlp.gate_proj": f"{_FEEDFORWARD}.sublayer.gate",
                f"{_LLAMA_LAYER}.mlp.up_proj": f"{_FEEDFORWARD}.sublayer.fc1",
                f"{_LLAMA_LAYER}.mlp.down_proj": f"{_FEEDFORWARD}.sublayer.fc2",
            }
        ),
    ),
    unused=("layers.{layer}.self_attn.rotary_emb.inv_freq", "score."),
)

_MISTRALS_DEFAULTS = {"num_key_value_heads": 8, "max_position_embeddings": 131072}

MISTRAL = replace(
    LLAMA,
    model_type="mistral",
    architecture="MistralForCausalLM",
    settings=tuple(
        replace(setting, default=_MISTRALS_DEFAULTS.get(setting.theirs, setting.default)) for setting in LLAMA.settings
    ),
    theirs={"rope_type": ("default",), "sliding_window": (None,)},
    missing={"sliding_window": 4096},
)

FAMILIES: Mapping[str, Family] = {family.model_type: family for family in (BERT, GPT2, LLAMA, MISTRAL)}
