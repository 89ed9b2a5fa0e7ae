#!/usr/bin/env bash
# torchscale 0.3.0 (the library of DeepNorm's authors): the encoder's beta in an encoder-decoder is not the paper's.
#
# Expected: DeepNorm (2022, arXiv 2203.00555, table 1) starts the encoder of N layers, next to a decoder of M
# layers, with beta = 0.87 (N^4 M)^(-1/16) on the feed-forward, value and output matrices; its alpha = 0.81 (N^4
# M)^(1/16).
# Observed: alpha is the paper's, but beta is 1.15 (N^4 M)^(-1/16): 1.15 is 1 / 0.87 and the code divides by it
# where it has to multiply. The decoder's beta, (12 M)^(-1/4), is the paper's. (fairscale and timm are imported by
# the package but not used here: empty modules stand in for them.)
# Exits with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy
"$folder/venv/bin/pip" install --quiet --no-deps torchscale==0.3.0
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from types import ModuleType

for name, names in {"fairscale": (), "fairscale.nn": ("checkpoint_wrapper", "wrap"), "timm": (), "timm.models": (),
                    "timm.models.layers": ("drop_path",)}.items():  # fmt: skip
    sys.modules[name] = ModuleType(name)
    for attribute in names:
        setattr(sys.modules[name], attribute, lambda module, *rest, **more: module)

import torch
from torchscale.architecture.config import DecoderConfig, EncoderConfig
from torchscale.architecture.decoder import Decoder
from torchscale.architecture.encoder import Encoder

N, M, SMALL = 6, 12, 16


def config(kind, side, layers, deepnorm):
    sizes = {"embed_dim": SMALL, "attention_heads": 2, "ffn_embed_dim": SMALL, "layers": layers, "normalize_before": False}
    made = kind(vocab_size=8, deepnorm=deepnorm, subln=False, **{f"{side}_{key}": value for key, value in sizes.items()})
    made.encoder_layers, made.decoder_layers = N, M
    return made


def beta(build):
    """How much smaller the same start is with DeepNorm than without."""
    with_it, without = (build(deepnorm) for deepnorm in (True, False))
    ratios = [with_it.layers[0].get_parameter(name) / without.layers[0].get_parameter(name)
              for name in ("ffn.fc1.weight", "self_attn.v_proj.weight", "self_attn.out_proj.weight")]  # fmt: skip
    assert all(torch.allclose(ratio, ratios[0].mean()) for ratio in ratios)
    return ratios[0].mean().item(), with_it.layers[0].alpha


def encoder(deepnorm):
    torch.manual_seed(0)
    return Encoder(config(EncoderConfig, "encoder", N, deepnorm), torch.nn.Embedding(8, SMALL), is_encoder_decoder=True)


def decoder(deepnorm):
    torch.manual_seed(0)
    return Decoder(config(DecoderConfig, "decoder", M, deepnorm), torch.nn.Embedding(8, SMALL), is_encoder_decoder=True)


seen, alpha = beta(encoder)
paper = 0.87 * (N**4 * M) ** (-1 / 16)
print(f"encoder: alpha {alpha:.4f} (paper {0.81 * (N**4 * M) ** (1 / 16):.4f}), beta {seen:.4f} (paper {paper:.4f})")
of_decoder, _ = beta(decoder)
print(f"decoder: beta {of_decoder:.4f} (paper {(12 * M) ** -0.25:.4f})")
assert abs(of_decoder - (12 * M) ** -0.25) < 1e-4 and abs(alpha - 0.81 * (N**4 * M) ** (1 / 16)) < 1e-4
assert abs(seen - 1.15 * (N**4 * M) ** (-1 / 16)) < 1e-4, "the behaviour has changed"
PYTHON
