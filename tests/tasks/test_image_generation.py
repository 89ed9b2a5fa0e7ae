from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from addnorm import tasks
from addnorm.data.pictures.image_splits import Images
from addnorm.errors import UserError
from addnorm.models.noise import Noise
from addnorm.tasks.pictures.marginals import independent_nats, independent_samples, pixels_of_levels, quantised
from addnorm.tasks.pictures.variational import bits_per_dimension
from addnorm.training.load import load_run
from addnorm.training.run import train

SMALL = {
    "data": "digits",
    "d_model": 24,
    "num_heads": 2,
    "num_layers": 2,
    "batch_size": 16,
    "evaluations": 1,
    "signals": 0,
    "score_items": 0,
    "ema": 0.9,
    "evaluation_tokens": 400,
}
DIFFUSION = "image-generation(patch=4, sampling_steps=4, samples=100)"
PIXELS = "image-generation(method=autoregressive, patch=4, levels=16, within_width=16, samples=100)"


def config_of(task: str, **changes):
    return tasks.config(task, **(SMALL | {"steps": 3} | changes))


@pytest.fixture(scope="module", params=[DIFFUSION, PIXELS], ids=["diffusion", "autoregressive"])
def trained(request, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "digits"
    train(config_of(request.param, steps=20), folder)
    return folder


def idx(values: np.ndarray) -> bytes:
    """An array of bytes in MNIST's format."""
    return bytes((0, 0, 8, values.ndim)) + b"".join(n.to_bytes(4, "big") for n in values.shape) + values.tobytes()


@pytest.fixture(scope="module")
def blinking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures whose halves are black or white, each with probability a half."""
    folder, draws = tmp_path_factory.mktemp("blinking"), np.random.default_rng(0)
    for part, count in (("train", 600), ("t10k", 60)):
        halves = 255 * draws.integers(0, 2, (count, 1, 2), dtype=np.uint8)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(halves.repeat(4, axis=1).repeat(2, axis=2)))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(draws.integers(0, 2, count, dtype=np.uint8)))
    return folder


def learned(task: str, data: Path, folder: Path, **changes):
    """A problem and its trained model."""
    config = config_of(task, data=str(data), learning_rate=4e-3, **changes)
    train(config, folder)
    loaded = load_run(folder)
    return tasks.prepare(config, loaded.reader), loaded.model


@pytest.mark.slow
def test_a_decoder_learns_what_pixels_know_of_each_other(blinking, tmp_path):
    problem, model = learned("image-generation(method=autoregressive, patch=2)", blinking, tmp_path / "run", steps=150)
    # Two coins a picture of 16 pixels are 2 ln 2 / 16 nats a pixel; independent pixels pay ln 2.
    assert problem.evaluate(model) < 0.5 * problem.chance_loss


@pytest.mark.slow
def test_a_diffusion_learns_what_pixels_know_of_each_other(blinking, tmp_path):
    problem, model = learned("image-generation(patch=2)", blinking, tmp_path / "run", steps=300)
    independent = problem.evaluate(KnowsCoins(problem.choices.noise))  # the best there is, pixel by pixel: 0.645
    assert problem.evaluate(model) < 0.9 * independent < 0.9 * problem.chance_loss


def test_scores_stand_beside_independent_pixels(trained):
    loaded = load_run(trained)
    problem = tasks.prepare(loaded.config, loaded.reader)
    (bits,) = problem.scores(loaded.model, limit=50)  # a Frechet distance of 50 would say little
    assert bits.name == "bits per dimension" and bits.better == "lower"
    assert 0.5 < bits.baseline < 8
    assert math.isfinite(bits.value)
    distance, seen = problem.sample_scores(loaded.model, problem.splits.test, baselines=True)
    assert distance.value > 0 and distance.baseline > 0
    assert "floor, 100 training images" in distance.note
    assert 0 <= seen.value <= 100


def test_a_class_is_drawn_as_a_sheet_and_again_the_same(trained, tmp_path):
    loaded = load_run(trained)
    answer = loaded.reader.predict(loaded.model, "7 9", loaded.config)
    assert answer.values["class"] == "7" and answer.values["count"] == 9
    (path,) = answer.write(tmp_path / "one")
    (again,) = loaded.reader.predict(loaded.model, "7 9", loaded.config).write(tmp_path / "again")
    (other,) = loaded.reader.predict(loaded.model, "7 9", loaded.config, "5").write(tmp_path / "other")
    assert path.name == "7.png"
    assert path.read_bytes() == again.read_bytes() != other.read_bytes()


def test_what_names_no_class_is_refused(trained):
    loaded = load_run(trained)
    for given in ("cat", "7 many", "", "77 3"):
        with pytest.raises(UserError, match="names no class"):
            loaded.reader.predict(loaded.model, given, loaded.config)
    with pytest.raises(UserError, match="ask for 1 to 400"):
        loaded.reader.predict(loaded.model, "7 0", loaded.config)
    with pytest.raises(UserError, match="is no seed"):
        loaded.reader.predict(loaded.model, "7", loaded.config, "x")


def test_the_report_is_a_sheet_of_all_classes(trained, tmp_path):
    loaded = load_run(trained)
    (path,) = tasks.prepare(loaded.config, loaded.reader).report(loaded.model, tmp_path)
    assert path.name == "samples.png" and path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("task", [DIFFUSION, PIXELS])
def test_batches_are_a_function_of_seed_and_step(task):
    one, again, other = (tasks.prepare(config_of(task, seed=seed)) for seed in (1, 1, 2))
    again.train_batch(0)
    for step in (0, 5, 1000):
        for a, b in zip(one.train_batch(step), again.train_batch(step), strict=True):
            assert torch.equal(a, b)
        assert not torch.equal(one.train_batch(step)[0], other.train_batch(step)[0])


@pytest.mark.parametrize("task", [DIFFUSION, PIXELS])
def test_a_resumed_run_is_the_run_that_was_not_stopped(task, tmp_path):
    config = config_of(task, steps=6, saves=2)
    whole = train(config, tmp_path / "whole")

    class Stop(Exception): ...

    def stop(progress):
        if progress.step == 4:
            raise Stop

    with pytest.raises(Stop):
        train(config, tmp_path / "stopped", on_progress=stop)
    assert train(config, tmp_path / "stopped", resume=True)["validation_loss"] == whole["validation_loss"]


@pytest.mark.parametrize("task", [DIFFUSION, PIXELS, "image-generation(patch=4, conditioning=modulation)"])
@pytest.mark.parametrize("scheme", ["post-norm", "mhc", "attention-residuals", "by-layer", "admin(growth=profile)"])
def test_any_scheme_takes_steps(task, scheme, tmp_path):
    result = train(config_of(task, scheme=scheme), tmp_path / "run")
    assert result["status"] == "finished"
    assert math.isfinite(result["validation_loss"])


def test_some_training_images_come_without_their_class():
    problem = tasks.prepare(config_of("image-generation(patch=4, drop=0.25)", batch_size=1000))
    labels = problem.train_batch(0)[1]
    assert 0.2 < (labels == 10).float().mean() < 0.3
    times = problem.train_batch(0)[2]
    assert times.sort().values.diff().max() < 2.1 / 500  # half of them are spread evenly
    noise = problem.choices.noise
    (low, high), found = noise.range(), noise.log_snr(times.double()).sort().values
    assert found.diff().max() < 2.1 * (high - low) / 500  # and half evenly over lambda


def images_of(pixels: np.ndarray, labels: np.ndarray | None = None) -> Images:
    return Images(pixels=pixels, labels=np.zeros(len(pixels), np.int64) if labels is None else labels)


def coins(count: int) -> Images:
    """Pixels that are black or white, each with probability a half."""
    bits = torch.randint(0, 2, (count, 8, 8, 1), generator=torch.Generator().manual_seed(0))
    return images_of((255 * bits).to(torch.uint8).numpy())


class KnowsCoins(nn.Module):
    """The best prediction for coins: `E[x | z] = tanh(alpha z / sigma^2)`."""

    def __init__(self, noise: Noise) -> None:
        super().__init__()
        self.noise = noise

    def forward(self, z, times, labels):
        alpha, sigma = self.noise.rates(times, z)
        clean = (alpha * z / sigma**2).tanh()
        return self.noise.target(clean, times, (z - alpha * clean) / sigma)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_the_bound_of_a_perfect_denoiser_is_the_entropy(schedule):
    noise = Noise(schedule=schedule)
    # 1 bit a pixel, plus what reading 8 bits through the last noise costs: nothing, for 0 and 255. The mean over
    # 4 x 500 pictures of 64 pixels has a standard error of about 0.02.
    assert bits_per_dimension(KnowsCoins(noise), noise, coins(500)) == pytest.approx(1, abs=0.07)


def test_the_bound_of_a_worse_denoiser_is_higher():
    noise = Noise()

    class Blurred(KnowsCoins):
        def forward(self, z, times, labels):
            return 0.9 * super().forward(z, times, labels)

    perfect, worse = (bits_per_dimension(kind(noise), noise, coins(500)) for kind in (KnowsCoins, Blurred))
    assert worse > perfect + 0.05  # 0.085 here


def test_independent_pixels_pay_their_entropy():
    found = independent_nats(coins(2000), coins(500), 256) / math.log(2)
    assert found == pytest.approx(1, abs=0.02)  # 2000 coins a pixel, and the small number on the unseen 254 levels


def test_independent_samples_have_the_frequencies_of_their_class():
    pixels = np.zeros((400, 2, 2, 1), np.uint8)
    labels = np.arange(400) % 2
    pixels[labels == 1] = 200
    pixels[(labels == 1) & (np.arange(400) < 100), 0, 0] = 50
    made = independent_samples(
        images_of(pixels, labels), torch.tensor([0, 1]).repeat(500), torch.Generator().manual_seed(0)
    )
    assert (made[0::2] == 0).all()
    assert (made[1::2, 1] == 200).all()
    assert 0.2 < (made[1::2, 0, 0] == 50).float().mean() < 0.3


def test_levels_come_back_as_bytes_no_further_off_than_half_a_level():
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(pixels_of_levels(quantised(every, 256), 256), every)
    back = pixels_of_levels(quantised(every, 16), 16)
    assert (back.int() - every.int()).abs().max() <= 16
    assert back[0] == 0 and back[-1] == 255


def test_the_chance_loss_of_a_diffusion_is_that_of_independent_gaussians():
    problem = tasks.prepare(config_of(DIFFUSION))
    spread = problem.pixels.float().div(127.5).var(0)

    class Independent(nn.Module):
        def forward(self, z, times, labels):
            noise = problem.choices.noise
            alpha, sigma = noise.rates(times, z)
            mean = problem.pixels.float().mean(0) / 127.5 - 1
            clean = mean + alpha * spread / (alpha**2 * spread + sigma**2) * (z - alpha * mean)
            return noise.target(clean, times, (z - alpha * clean) / sigma)

    images = problem.pixels.float() / 127.5 - 1  # those whose variances they are
    batch = problem._noised(images, problem.labels, torch.Generator().manual_seed(0))
    # 1,437 pictures of 64 pixels: a standard error of about 0.5 %.
    assert problem.loss(Independent(), batch).item() == pytest.approx(problem.chance_loss, rel=0.02)


def test_mistakes_are_refused_with_what_is_allowed():
    for text, match in (
        ("image-generation(method=gan)", "method 'gan' is unknown"),
        ("image-generation(levels=1)", "levels=1 is not allowed; use 2 to 256"),
        ("image-generation(schedule=cosin)", "did you mean 'cosine'"),
        ("image-generation(drop=1.5)", "drop=1.5"),
        ("image-generation(guidance=-1)", "guidance=-1"),
        ("image-generation(within_width=33)", "num_heads=2 does not divide"),
    ):
        with pytest.raises(UserError, match=match):
            tasks.parse(text)
    with pytest.raises(UserError, match="patch=3 does not divide images of 8 x 8"):
        tasks.prepare(config_of("image-generation(patch=3)"))
