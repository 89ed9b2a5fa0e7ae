from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from addnorm import tasks
from addnorm.data.pictures import images, png
from addnorm.errors import UserError
from addnorm.layers.initialise import generator_for
from addnorm.tasks.pictures import image_batches
from addnorm.tasks.pictures.augmentation import Augmentation
from addnorm.tasks.pictures.image_batches import numbers
from addnorm.tasks.pictures.image_scores import accuracy, macro_f1
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
    "evaluation_tokens": 400,
}


def config_of(task: str = "image-classification(patch=4)", **changes):
    return tasks.config(task, **(SMALL | {"steps": 3} | changes))


def picture_of(folder: Path, pixels: np.ndarray) -> Path:
    path = folder / "picture.png"
    path.write_bytes(png.encode(pixels))
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "digits"
    train(config_of("image-classification(patch=2)", steps=250, learning_rate=4e-3), folder)
    return folder


@pytest.mark.slow
def test_digits_are_learned_far_beyond_chance(trained):
    loaded = load_run(trained)
    problem = tasks.prepare(loaded.config, loaded.reader)
    score, f1 = problem.scores(loaded.model)
    assert score.name == "accuracy" and score.value > 75  # chance is 10; what 250 steps of 16 images give
    assert score.baseline is not None and score.baseline > 85  # logistic regression on 8 x 8 pixels
    assert score.baseline_name == "logistic regression on pixels"
    assert "majority class" in score.note
    assert abs(f1.value - score.value) < 10  # the classes are about as frequent as each other


def test_a_picture_is_classified_by_its_run(trained, tmp_path):
    pytest.importorskip("PIL")
    loaded = load_run(trained)
    problem = tasks.prepare(loaded.config, loaded.reader)
    test = images.load("digits").test
    for i in range(3):
        found = loaded.reader.predict(loaded.model, str(picture_of(tmp_path, test.pixels[i])), loaded.config)
        direct = problem._logits(loaded.model, images.load("digits").test)[i].argmax()
        assert found.values["label"] == problem.kind.classes[int(direct)]
        assert sum(found.values["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert found.text.startswith(found.values["label"])


def test_a_larger_coloured_picture_is_brought_to_the_models_size(trained, tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    loaded, test = load_run(trained), images.load("digits").test
    large = np.asarray(pillow.fromarray(test.pixels[0, ..., 0]).resize((64, 64))).repeat(3).reshape(64, 64, 3)
    small = loaded.reader.predict(loaded.model, str(picture_of(tmp_path, test.pixels[0])), loaded.config)
    found = loaded.reader.predict(loaded.model, str(picture_of(tmp_path, large)), loaded.config)
    assert found.values["label"] == small.values["label"]


@pytest.mark.parametrize("shape", [(8, 160), (160, 8), (31, 33), (5, 5)])
def test_a_prediction_sees_the_pixels_that_training_saw(tmp_path, shape, monkeypatch):
    pillow = pytest.importorskip("PIL.Image")
    draws = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(12):
            pixels = draws.integers(0, 256, (*shape, 3), dtype=np.uint8)  # stripes and noise part filters the most
            pillow.fromarray(pixels).save(tmp_path / "pets" / name / f"{i:02}.png")
    seen = []
    monkeypatch.setattr(image_batches, "numbers", lambda pixels: seen.append(pixels) or numbers(pixels))
    config = config_of("image-classification(resize=16, patch=4)", data=str(tmp_path / "pets"))
    problem = tasks.prepare(config)
    model, _ = problem.reader.build(config), seen.clear()
    every = {
        pixels.tobytes() for part in ("train", "validation", "test") for pixels in getattr(problem.splits, part).pixels
    }
    for path in sorted((tmp_path / "pets").rglob("*.png")):
        problem.reader.predict(model, str(path), config)
    assert {np.asarray(pixels)[0].tobytes() for pixels in seen} == every


def test_what_is_no_picture_is_refused(trained, tmp_path):
    pytest.importorskip("PIL")
    loaded = load_run(trained)
    with pytest.raises(UserError, match="is no file"):
        loaded.reader.predict(loaded.model, str(tmp_path / "none.png"), loaded.config)
    cut = picture_of(tmp_path, np.zeros((8, 8, 1), dtype=np.uint8))
    cut.write_bytes(cut.read_bytes()[:40])
    with pytest.raises(UserError, match="picture"):
        loaded.reader.predict(loaded.model, str(cut), loaded.config)


def test_a_resumed_run_is_the_run_that_was_not_stopped(tmp_path):
    config = config_of(steps=6, saves=2)
    whole = train(config, tmp_path / "whole")

    class Stop(Exception): ...

    def stop(progress):
        if progress.step == 4:
            raise Stop

    with pytest.raises(Stop):
        train(config, tmp_path / "stopped", on_progress=stop)
    resumed = train(config, tmp_path / "stopped", resume=True)
    assert resumed["validation_loss"] == whole["validation_loss"]


def test_batches_are_a_function_of_seed_and_step():
    task = "image-classification(patch=4, shift=1, mirror=True)"
    one, again, other = (tasks.prepare(config_of(task, seed=seed)) for seed in (1, 1, 2))
    again.train_batch(0)
    for step in (0, 5, 1000):
        for a, b in zip(one.train_batch(step), again.train_batch(step), strict=True):
            assert torch.equal(a, b)
        assert not torch.equal(one.train_batch(step)[0], other.train_batch(step)[0])


def test_an_epoch_takes_each_image_once():
    problem = tasks.prepare(config_of(batch_size=100))
    seen = torch.cat([problem.train_batch(step)[1] for step in range(14)])
    assert len(seen) == 1400
    assert (seen.bincount(minlength=10) <= problem.labels.bincount(minlength=10)).all()


def test_the_loss_of_who_knows_the_frequencies_is_the_chance_loss():
    problem = tasks.prepare(config_of())
    model = problem.build()
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.copy_(((problem.labels.bincount() + 1).double() / (len(problem.labels) + 10)).log())
    assert problem.evaluate(model) == pytest.approx(problem.chance_loss, rel=1e-5)


def test_images_are_moved_by_no_more_than_asked_and_mirrored_half_the_time():
    pixels = torch.arange(1, 26, dtype=torch.uint8).reshape(1, 5, 5, 1).expand(400, -1, -1, -1)
    moved = Augmentation(shift=1, mirror=0.5)(pixels, generator_for(0, "test"))
    centres = moved[:, 2, 2, 0].unique().tolist()
    assert centres == [7, 8, 9, 12, 13, 14, 17, 18, 19]
    mirrored = (moved[:, 2, 1, 0] > moved[:, 2, 3, 0]).float().mean()
    assert 0.4 < mirrored < 0.6
    assert torch.equal(Augmentation()(pixels, generator_for(0, "test")), pixels)


def test_macro_f1_is_the_mean_over_classes():
    guess, labels = torch.tensor([0, 0, 1, 2, 2, 2]), torch.tensor([0, 1, 1, 2, 2, 0])
    # Class 0: 2 * 1 / (2 + 2); class 1: 2 * 1 / (1 + 2); class 2: 2 * 2 / (3 + 2).
    assert macro_f1(guess, labels) == pytest.approx(100 * (1 / 2 + 2 / 3 + 4 / 5) / 3)
    assert accuracy(guess, labels) == pytest.approx(100 * 4 / 6)


@pytest.mark.parametrize("scheme", ["post-norm", "mhc", "attention-residuals", "by-layer", "admin(growth=profile)"])
def test_any_scheme_takes_steps(scheme, tmp_path):
    result = train(config_of(scheme=scheme), tmp_path / "run")
    assert result["status"] == "finished"
    assert result["validation_loss"] < 20


def test_other_data_get_the_labels_of_the_run(tmp_path):
    digits = images.load("digits").test
    for label in (3, 7):
        (tmp_path / str(label)).mkdir()
        for i in np.flatnonzero(digits.labels == label):
            (tmp_path / str(label) / f"{i}.png").write_bytes(png.encode(digits.pixels[i]))
    pytest.importorskip("PIL")
    reader = tasks.prepare(config_of()).reader
    other = tasks.prepare(config_of(data=str(tmp_path)), reader)
    assert set(other.labels.tolist()) == {3, 7}
    (tmp_path / "7").rename(tmp_path / "seven")
    with pytest.raises(UserError, match="class 'seven' was not in the training data"):
        tasks.prepare(config_of(data=str(tmp_path)), reader)


def test_mistakes_are_refused_with_what_is_allowed():
    with pytest.raises(UserError, match="patch=3 does not divide images of 8 x 8 pixels; use 1, 2, 4, 8"):
        tasks.prepare(config_of("image-classification(patch=3)"))
    with pytest.raises(UserError, match="pooling"):
        tasks.parse("image-classification(pooling=max)")
    with pytest.raises(UserError, match="shift=-1"):
        tasks.parse("image-classification(shift=-1)")
    with pytest.raises(UserError, match="neither a folder"):
        tasks.prepare(config_of(data="no-such-images"))
