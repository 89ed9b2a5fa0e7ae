"""`Transformer.generate`: greedy, sampled, cached, padded."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from addnorm import Transformer, UserError
from addnorm.models.sampling import Sampling
from models.bodies import VOCAB, decoder, ids, left_padded


def wordy(**changes: object) -> Transformer:
    """A decoder whose greedy text depends on what it attends to: with a tied head it would repeat one token."""
    model = decoder(tie_embeddings=False, **changes)
    with torch.no_grad():
        for block in model.stack.blocks:
            for parameter in block.sublayer.parameters():
                parameter.mul_(3 if parameter.dim() == 2 else 0.1)
    return model


@torch.no_grad()
def by_full_forwards(model: Transformer, prompt: Tensor, new: int, sampling: Sampling) -> Tensor:
    """What `generate` must give, without a cache."""
    for _ in range(new):
        prompt = torch.cat((prompt, sampling.choose(model(prompt)[:, -1])), dim=1)
    return prompt


@pytest.mark.parametrize("position", ["rotary", "learned", "sinusoidal", "none"])
@pytest.mark.parametrize("arrangement", ["sequential", "parallel", "composed"])
def test_greedy_is_the_argmax_of_full_forwards(position, arrangement):
    model = wordy(position=position, arrangement=arrangement, num_kv_heads=2)
    expected = by_full_forwards(model, ids(), 12, Sampling())
    assert torch.equal(model.generate(ids(), 12), expected)


@settings(max_examples=20)
@given(
    batch=st.integers(1, 3),
    prompt=st.integers(1, 5),
    new=st.integers(0, 6),
    temperature=st.floats(0.1, 3),
    top_k=st.none() | st.integers(1, VOCAB),
    top_p=st.floats(0.05, 1),
    seed=st.integers(0, 99),
)
def test_cached_sampling_equals_uncached_sampling(batch, prompt, new, temperature, top_k, top_p, seed):
    model, start = decoder(), ids(batch, prompt, seed)
    drawn = []
    for run in (model.generate, lambda *given, **how: by_full_forwards(model, *given, Sampling(**how))):
        generator = torch.Generator().manual_seed(seed)
        drawn.append(run(start, new, temperature=temperature, top_k=top_k, top_p=top_p, generator=generator))
    assert torch.equal(*drawn)
    assert drawn[0].shape == (batch, prompt + new)
    assert torch.equal(drawn[0][:, :prompt], start)
    assert drawn[0].min() >= 0 and drawn[0].max() < VOCAB


@settings(max_examples=20)
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4), position=st.sampled_from(["rotary", "learned"]))
def test_left_padded_prompts_are_continued_as_each_alone(lengths, position):
    model = wordy(position=position)
    rows, tokens, keep = left_padded(lengths)
    together = model.generate(tokens, 8, keep=keep)
    for row, found in zip(rows, together, strict=True):
        assert torch.equal(found[-len(row) - 8 :], model.generate(row[None], 8)[0])


def test_the_greedy_text_of_these_tests_is_no_repetition():
    for position in ("rotary", "learned", "sinusoidal"):
        text = wordy(position=position).generate(ids(3, 4), 30)
        assert min(len(set(row.tolist())) for row in text[:, 4:]) >= 3


def test_the_text_may_fill_all_learned_positions():
    model = decoder(position="learned", max_tokens=10)
    # The last token that is added is never read, so it needs no position.
    assert torch.equal(model.generate(ids(1, 4), 7), by_full_forwards(model, ids(1, 4), 7, Sampling()))
    with pytest.raises(UserError, match="11 tokens came, but max_tokens=10"):
        model.generate(ids(1, 4), 8)


def test_a_text_longer_than_the_first_cache_is_continued_the_same():
    model = wordy(position="rotary")
    assert torch.equal(model.generate(ids(2, 3), 150), by_full_forwards(model, ids(2, 3), 150, Sampling()))


def test_the_seed_decides():
    model = decoder()

    def drawn(seed: int) -> Tensor:
        return model.generate(ids(), 20, temperature=2.0, generator=torch.Generator().manual_seed(seed))

    assert torch.equal(drawn(0), drawn(0))
    assert not torch.equal(drawn(0), drawn(1))


def test_without_a_generator_the_global_one_is_used():
    model = decoder()
    torch.manual_seed(3)
    first = model.generate(ids(), 20, temperature=2.0)
    torch.manual_seed(3)
    assert torch.equal(model.generate(ids(), 20, temperature=2.0), first)


def test_dropout_is_off_while_generating_and_every_mode_is_as_before_afterwards():
    model = Transformer(
        decoder().scheme, vocab_size=VOCAB, d_model=16, num_heads=4, num_layers=2, dropout=0.5, attention_dropout=0.5
    ).train()
    model.stack.blocks[0].eval()  # frozen by hand
    modes = {name: module.training for name, module in model.named_modules()}
    assert torch.equal(model.generate(ids(), 10), model.generate(ids(), 10))
    assert {name: module.training for name, module in model.named_modules()} == modes


def test_the_modes_are_as_before_even_after_an_error():
    model = decoder().train()
    with torch.no_grad():
        model.embedding.tokens.weight.fill_(float("nan"))
    with pytest.raises(UserError, match="logits are NaN"):
        model.generate(ids(), 1)
    assert all(module.training for module in model.modules())


def test_nothing_new_is_the_prompt():
    assert torch.equal(decoder().generate(ids(), 0), ids())


def test_the_result_needs_no_gradient():
    model = decoder()
    model.generate(ids(), 2)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((ids(2, 0), 3), "the prompt is empty; give at least one token."),
        ((ids()[0], 3), "tokens have shape (7,)"),
        ((ids().float(), 3), "give integer ids of shape (batch, tokens)."),
        ((ids() + VOCAB, 3), "the prompt holds ids outside the vocabulary; use 0 to 12."),
        ((ids() - VOCAB, 3), "the prompt holds ids outside the vocabulary"),
        ((ids(), -1), "max_new_tokens=-1 is not allowed; use 0 or more."),
        ((ids(), 3, torch.arange(7).expand(3, 7) < 5), "pad on the left: keep[:, -1] must be True."),
        ((ids(), 3, torch.ones(3, 5, dtype=torch.bool)), "the padding mask has shape (3, 5)"),
        ((ids(), 3, torch.ones(3, 7)), "the padding mask has dtype torch.float32"),
    ],
)
def test_bad_input_is_told_in_one_line(arguments, told):
    with pytest.raises(UserError) as error:
        decoder().generate(*arguments[:2], keep=arguments[2] if len(arguments) > 2 else None)
    assert told in str(error.value)
    assert "\n" not in str(error.value)
