"""Linear layers are torch's own: who looks for them finds them, and what is done to them is done."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from addnorm import Transformer, schemes
from addnorm.layers.cache import KVCache
from addnorm.layers.watched import is_only
from addnorm.testing.small_models import moved, tokens


def model(**shape) -> Transformer:
    return moved(schemes.parse("pre-norm"), **shape)


def test_dynamic_quantisation_finds_every_linear_layer():
    whole = model(tie_embeddings=False)
    expected = whole(tokens())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces where its quantisation moves to
        small = torch.ao.quantization.quantize_dynamic(whole, {nn.Linear}, dtype=torch.qint8)
    found = [module for module in small.modules() if type(module).__name__ == "Linear"]
    assert len(found) == 13 and not any(isinstance(module, nn.Linear) for module in found)
    with torch.no_grad():
        off = (small(tokens()) - expected).norm() / expected.norm()
        again = small(tokens()[:, :3], cache=(cache := KVCache())), small(tokens()[:, 3:4], cache=cache)
    assert 0 < off < 0.05  # eight bits a weight
    # What is quantised on the way is scaled by the largest number of the call: other tokens, other rounding.
    assert (again[1][:, 0] - expected[:, 3]).norm() / expected[:, 3].norm() < 0.1


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: parametrizations.weight_norm(layer),
        lambda layer: prune.l1_unstructured(layer, "weight", amount=0.5),
        lambda layer: layer.register_forward_hook(lambda module, given, output: 2 * output),
        lambda layer: layer.register_forward_pre_hook(lambda module, given: 2 * given[0]),
        lambda layer: setattr(layer, "forward", lambda x: 2 * nn.functional.linear(x, layer.weight, layer.bias)),
    ],
    ids=["weight norm", "pruning", "hook", "pre-hook", "patched"],
)
@pytest.mark.parametrize("place", ["q_proj", "o_proj"])
def test_what_is_done_to_a_layer_is_done(change, place):
    whole, ids = model(), tokens()
    layer = getattr(whole.stack.blocks[0].sublayer, place)
    before = whole(ids)
    change(layer)
    if "weight" not in layer._parameters:
        with torch.no_grad():  # another norm of each row
            getattr(layer, "parametrizations", layer)
            next(p for name, p in layer.named_parameters() if "weight" in name).mul_(1.5)
    assert not is_only(layer, nn.Linear) or "weight_orig" in layer._parameters
    full = whole(ids)
    assert not torch.allclose(full, before)
    cache = KVCache()
    with torch.no_grad():
        steps = [whole(ids[:, t : t + 1], cache=cache) for t in range(ids.shape[1])]
    torch.testing.assert_close(torch.cat(steps, dim=1), full, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("part", ["q_norm", "k_norm", "rotary"])
def test_hooks_within_attention_are_called_in_decoding(part):
    whole = model(position="rotary")
    seen = []
    getattr(whole.stack.blocks[0].sublayer, part).register_forward_hook(lambda *_: seen.append(part))
    cache = KVCache()
    with torch.no_grad():
        whole(tokens()[:, :3], cache=cache)
        whole(tokens()[:, 3:4], cache=cache)
    assert seen == [part, part]


def test_adapters_that_look_for_the_exact_type_find_the_layers():
    found = [path for path, module in model().named_modules() if type(module) is nn.Linear]
    assert len(found) == 12 and "stack.blocks.0.sublayer.q_proj" in found
