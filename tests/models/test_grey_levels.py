"""The head of grey levels is Bayes' rule, with the right gradient, whatever the parts it is taken in."""

from __future__ import annotations

import pytest
import torch

from addnorm.layers.initialise import initialise_
from addnorm.layers.patches import PatchGrid
from addnorm.models import grey_levels
from addnorm.models.diffusion import DiffusionTransformer
from addnorm.models.grey_levels import LEVELS, LevelHead
from addnorm.models.noise import Noise
from addnorm.schemes import parse

VALUES = 6


def head() -> LevelHead:
    made = LevelHead(8, VALUES).double()
    initialise_(made, 0)
    with torch.no_grad():
        made.scores.weight.mul_(30)  # sharp enough for scores to matter beside the noisy pixel
    return made


def given(sigma: float = 0.3) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, 3, 8, generator=generator, dtype=torch.float64)
    noisy = torch.randn(2, 3, VALUES, generator=generator, dtype=torch.float64)
    noise = torch.tensor([sigma, sigma / 2], dtype=torch.float64).reshape(2, 1, 1)
    return hidden, noisy, ((1 - noise**2).sqrt(), noise)


def by_bayes(made: LevelHead, hidden: torch.Tensor, noisy: torch.Tensor, rates) -> torch.Tensor:
    """The mean over levels of prior times likelihood, all 256 at once."""
    alpha, sigma = rates
    levels = torch.arange(LEVELS, dtype=torch.float64) / 127.5 - 1
    prior = made.scores(made.features(hidden).reshape(*noisy.shape, -1)).softmax(-1)
    likelihood = (
        torch.distributions.Normal(alpha[..., None] * levels, sigma[..., None]).log_prob(noisy[..., None]).exp()
    )
    joint = prior * likelihood
    return (joint * levels).sum(-1) / joint.sum(-1)


@pytest.mark.parametrize("part", [5, 256])  # 36 pixels: eight parts, or one
def test_the_mean_is_that_of_prior_times_likelihood(part, monkeypatch):
    monkeypatch.setattr(grey_levels, "PART", part)
    made = head()
    torch.testing.assert_close(made(*given()), by_bayes(made, *given()))


@pytest.mark.parametrize("part", [5, 256])
def test_the_gradient_is_that_of_the_formula(part, monkeypatch):
    monkeypatch.setattr(grey_levels, "PART", part)
    made, (hidden, noisy, rates) = head(), given()
    hidden.requires_grad_(), noisy.requires_grad_()
    wanted = [hidden, noisy, *made.parameters()]
    slopes = torch.randn(noisy.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = torch.autograd.grad((made(hidden, noisy, rates) * slopes).sum(), wanted)
    truth = torch.autograd.grad((by_bayes(made, hidden, noisy, rates) * slopes).sum(), wanted)
    for one, other in zip(found, truth, strict=True):
        torch.testing.assert_close(one, other)


def test_at_little_noise_any_scores_find_the_level():
    levels = torch.tensor([0, 1, 100, 101, 254, 255], dtype=torch.float64).expand(2, 3, VALUES) / 127.5 - 1
    hidden, noise, _ = given()
    sigma = torch.full((2, 1, 1), 5e-4, dtype=torch.float64)  # half a level is 7.8 of it
    alpha = (1 - sigma**2).sqrt()
    found = head()(hidden, alpha * levels + sigma * noise, (alpha, sigma))
    torch.testing.assert_close(found, levels, atol=1e-6, rtol=0)


@pytest.mark.parametrize("predict", ["v", "epsilon"])
def test_the_prediction_says_the_mean_picture(predict):
    noise, grid = Noise(predict=predict), PatchGrid(height=8, width=8, channels=1, patch=4)
    shape = {"vocab_size": 4, "d_model": 16, "num_heads": 2, "num_layers": 1}
    model = DiffusionTransformer(parse("pre-norm"), grid=grid, head="levels", noise=noise, **shape).double()
    noisy = torch.randn(3, 8, 8, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    times, labels = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64), torch.arange(3)
    clean, _ = noise.parted(noisy, times, model(noisy, times, labels))
    assert clean.abs().max() <= 1
    found = noise.noised(clean, times, noise.parted(noisy, times, model(noisy, times, labels))[1])
    torch.testing.assert_close(found, noisy)


def test_torch_func_takes_the_formula():
    made, (hidden, noisy, rates) = head(), given()
    parameters = {path: one.detach() for path, one in made.named_parameters()}

    def loss(parameters, hidden):
        return torch.func.functional_call(made, parameters, (hidden, noisy, rates)).square().sum()

    expected = torch.autograd.grad(made(hidden, noisy, rates).square().sum(), list(made.parameters()))
    found = torch.func.grad(loss)(parameters, hidden)
    for path, one in zip(found, expected, strict=True):
        torch.testing.assert_close(found[path], one)
    direction = {path: torch.ones_like(one) for path, one in parameters.items()}
    _, along = torch.func.jvp(lambda it: loss(it, hidden), (parameters,), (direction,))
    torch.testing.assert_close(along, sum(one.sum() for one in expected))
    rows = torch.vmap(lambda *row: made(row[0][None], row[1][None], (row[2][None], row[3][None]))[0])
    torch.testing.assert_close(rows(hidden, noisy, *rates), made(hidden, noisy, rates))


def test_a_second_derivative_is_that_of_the_formula():
    made, inputs = head(), given()
    first = torch.autograd.grad(made(*inputs).square().sum(), list(made.parameters()), create_graph=True)
    found = torch.autograd.grad(sum(one.square().sum() for one in first), list(made.parameters()))
    first = torch.autograd.grad(by_bayes(made, *inputs).square().sum(), list(made.parameters()), create_graph=True)
    expected = torch.autograd.grad(sum(one.square().sum() for one in first), list(made.parameters()))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)  # two derivatives of a sharp softmax


def test_who_quantises_or_watches_the_scores_is_heard():
    made, inputs = head().float(), [one.float() for one in given()[:2]]
    rates = tuple(rate.float() for rate in given()[2])
    before, seen = made(*inputs, rates), []
    made.scores.register_forward_hook(lambda layer, given, scores: seen.append(scores.shape))
    torch.testing.assert_close(made(*inputs, rates), before)
    assert seen == [(36, LEVELS)]
    small = torch.ao.quantization.quantize_dynamic(made, {torch.nn.Linear}, dtype=torch.qint8)
    assert not any(type(layer) is torch.nn.Linear for layer in small.modules())
    # 0.2 of the range 2: eight bits of weights whose scores were made sharp above.
    assert (small(*inputs, rates) - before).abs().max() < 0.2
