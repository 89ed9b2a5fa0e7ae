"""Every choice of attention under every kind of scheme: the laws of a body, and what each choice promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from addnorm import Encoder, EncoderDecoder, Transformer, UserError, schemes
from addnorm.config import RunConfig, Shape
from addnorm.kernels import native
from addnorm.layers.attention import Attention, CrossAttention
from addnorm.layers.cache import KVCache
from addnorm.layers.context import Context
from addnorm.studies.spec import CompareConfig, runs
from addnorm.testing.small_models import moved, tokens

CHOICES: dict[str, dict[str, Any]] = {
    "fused": {"attention": "fused"},
    "grouped": {"num_heads": 4, "num_kv_heads": 1},
    "window": {"attention": "sliding-window", "window": 3},
    "window, grouped": {"attention": "sliding-window", "window": 3, "num_heads": 4, "num_kv_heads": 2},
    "linear": {"attention": "linear"},
    "linear, grouped": {"attention": "linear", "num_heads": 4, "num_kv_heads": 2},
}
EFFICIENT = [name for name in CHOICES if name != "fused"]
# One of a kind: streams, history of depth, values passed on, views, norms inside, parts after positions, post-norm.
KINDS = ("pre-norm", "mhc", "attention-residuals", "value-residual", "mudd", "hybrid-norm", "n-gpt", "post-norm")
LENGTH = 9


@pytest.fixture(params=KINDS)
def scheme(request):
    return schemes.get(request.param)()


@pytest.fixture(params=EFFICIENT)
def choice(request):
    return CHOICES[request.param]


def ids(length: int = LENGTH) -> Tensor:
    return tokens(length=length)


def left_padded() -> Tensor:
    keep = torch.ones(3, LENGTH, dtype=torch.bool)
    keep[0, :4] = False
    return keep


def test_cached_decoding_equals_the_full_forward(scheme, choice):
    model, cache = moved(scheme, **choice).double(), KVCache()
    steps = [model(part, cache=cache) for part in ids().split([4, 1, 1, 3], dim=1)]
    # 1e-9: float64 sums of a few dozen terms, taken in another order.
    torch.testing.assert_close(torch.cat(steps, dim=1), model(ids()), rtol=1e-9, atol=1e-9)


def test_the_future_does_not_leak(scheme, choice):
    model = moved(scheme, **choice)
    before, after = model(ids()), model(changed(ids()))
    assert torch.equal(before[:, :-1], after[:, :-1])
    assert not torch.equal(before[:, -1], after[:, -1])


def changed(ids: Tensor) -> Tensor:
    other = ids.clone()
    other[:, -1] = (other[:, -1] + 1) % 11
    return other


def test_padding_on_the_left_changes_no_real_token(scheme, choice):
    model = moved(scheme, **choice).double()
    alone = model(ids()[:1, 4:])
    torch.testing.assert_close(model(ids(), left_padded())[:1, 4:], alone, rtol=1e-9, atol=1e-9)


def test_a_step_of_training_gives_finite_gradients_to_all_parameters(scheme, choice):
    model = moved(scheme, **choice)
    model(ids(), left_padded()).square().mean().backward()
    for path, parameter in model.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), path
    for attention in (module for module in model.modules() if isinstance(module, Attention)):
        assert all(linear.weight.grad.abs().max() > 0 for linear in (attention.k_proj, attention.v_proj))


def test_bfloat16_stays_finite_under_autocast_and_cast(scheme, choice):
    with torch.autocast("cpu", torch.bfloat16):
        assert moved(scheme, **choice)(ids(), left_padded()).isfinite().all()
    low = moved(scheme, **choice).bfloat16()(ids(), left_padded())
    assert low.dtype == torch.bfloat16
    assert low.isfinite().all()


@pytest.mark.slow
@pytest.mark.usefixtures("untimed_guards")
@pytest.mark.parametrize("name", EFFICIENT)
def test_every_attention_compiles_whole(name):
    attention = moved(schemes.get("pre-norm")(), **CHOICES[name]).stack.blocks[0].sublayer
    torch._dynamo.reset()
    compiled = torch.compile(attention, fullgraph=True, backend="eager")
    for length in (5, 80):  # the second is compiled for any length, and has several blocks of the window
        x, context = torch.randn(2, length, 16), Context(causal=True)
        with native.switched(False):  # C++ rounds elsewhere
            assert torch.equal(compiled(x, context), attention(x, context))


@pytest.mark.parametrize("name", EFFICIENT)
def test_checkpointing_changes_nothing(name):
    gradients = []
    for checkpointing in (False, True):
        model = moved(schemes.get("value-residual")(), **CHOICES[name])
        model.stack.checkpointing = checkpointing
        model(ids()).square().mean().backward()
        gradients.append({path: p.grad for path, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.equal(gradients[0][path], gradients[1][path]) for path in gradients[0])


@pytest.mark.parametrize("name", EFFICIENT)
def test_an_encoder_sees_both_sides_and_no_padding(name):
    shape: dict[str, Any] = {"vocab_size": 11, "d_model": 16, "num_heads": 2, "num_layers": 1} | CHOICES[name]
    encoder = Encoder(schemes.get("pre-norm")(), **shape).double().eval()
    reach = (encoder(ids()) != encoder(changed(ids()))).any(-1).any(0).nonzero().flatten().tolist()
    # A window of 3 in an encoder is one token on each side.
    assert reach == ([LENGTH - 2, LENGTH - 1] if "window" in name else list(range(LENGTH)))
    whole, short = encoder(ids(), left_padded().flip(1)), encoder(ids()[:1, :-4])
    torch.testing.assert_close(whole[:1, :-4], short, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", EFFICIENT)
def test_cross_attention_stays_full(name):
    shape: dict[str, Any] = {"vocab_size": 11, "d_model": 16, "num_heads": 2, "num_layers": 1} | CHOICES[name]
    model = EncoderDecoder(schemes.get("mhc")(), **shape).double().eval()
    crossed = [module for module in model.modules() if isinstance(module, CrossAttention)]
    assert [layer.kernel for layer in crossed] == ["fused"]
    source, target, cache = ids(30), ids(), KVCache()
    logits, memory = model(source, target), model.encode(source)
    steps = [model.decode(part, memory, cache=cache) for part in target.split(2, dim=1)]
    torch.testing.assert_close(torch.cat(steps, dim=1), logits, rtol=1e-10, atol=1e-10)
    changed_source = source.clone()
    changed_source[:, 0] = (source[:, 0] + 1) % 11
    assert (model(changed_source, target) != logits).any(-1).all(), "each target token sees the first of the source"


def test_a_cache_of_grouped_heads_is_smaller_by_the_factor():
    def cached(**choice: Any) -> int:
        model, cache = moved(schemes.get("pre-norm")(), num_heads=4, **choice), KVCache()
        with torch.no_grad():
            model(ids(200), cache=cache)
        return cache.bytes

    full = cached()
    assert [full / cached(num_kv_heads=heads) for heads in (4, 2, 1)] == [1, 2, 4]
    # Two layers, keys and values, 3 rows, 4 heads of 4 float32 each; prompts get room for twice their tokens.
    assert full == 2 * 2 * 3 * (2 * 200) * 16 * 4
    assert cached(attention="sliding-window", window=20) == 2 * 2 * 3 * 20 * 16 * 4
    assert cached(attention="linear") == 2 * 3 * 4 * (4 * 4 + 4) * 4


@pytest.mark.parametrize("name", EFFICIENT)
def test_generation_goes_beyond_the_window(name):
    model = moved(schemes.get("pre-norm")(), **CHOICES[name]).double()
    prompt = ids(4)
    made = model.generate(prompt, 8)
    for _ in range(8):
        prompt = torch.cat((prompt, model(prompt)[:, -1:].argmax(-1)), dim=1)
    assert torch.equal(made, prompt)


@pytest.mark.parametrize("name", ["window", "linear"])
def test_a_scheme_that_changes_scores_is_refused_and_told_what_to_do(name):
    shape: dict[str, Any] = {"vocab_size": 11, "d_model": 16, "num_heads": 2, "num_layers": 1} | CHOICES[name]
    with pytest.raises(UserError, match="kernel never holds; give the model attention='plain'"):
        Transformer(schemes.get("real-former")(), **shape)


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        (
            {"attention": "sliding-window"},
            "needs a window, the tokens that each token sees; give for example window=128.",
        ),
        ({"window": 8}, "window=8 has no meaning for fused attention; give attention='sliding-window' or no window."),
        ({"attention": "sliding-window", "window": 0}, "window=0 is not allowed; use 1 or more."),
        ({"attention": "linear", "attention_dropout": 0.1}, "linear attention holds no weights to drop"),
        ({"attention": "sliding"}, "attention 'sliding' is unknown"),
    ],
)
def test_a_shape_tells_what_is_wrong(shape, told):
    for kind in (Shape, RunConfig, CompareConfig):
        with pytest.raises(UserError) as error:
            kind(**shape)
        assert told in str(error.value)
        assert "\n" not in str(error.value)


def test_a_comparison_hands_the_attention_to_its_runs():
    spec = CompareConfig(attention="sliding-window", window=8, num_kv_heads=1)
    for run in runs(spec):
        assert (run.config.attention, run.config.window, run.config.num_kv_heads) == ("sliding-window", 8, 1)
