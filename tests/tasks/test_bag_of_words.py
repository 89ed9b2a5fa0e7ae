from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from addnorm.tasks.text.bag_of_words import BagOfWords, TfIdf
from addnorm.tasks.text.rank import pearson, spearman
from addnorm.tasks.text.targets import Labels, Scale
from addnorm.tasks.text.word_overlap import OverlapThreshold, overlap

RANDOM = np.random.default_rng(0)
WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]
TEXTS = [" ".join(RANDOM.choice(WORDS, 6)) for _ in range(200)]
LABELS = torch.tensor([(text.count("alpha") + 2 * text.count("beta")) % 3 for text in TEXTS])
THREE = Labels(names=("a", "b", "c"))


def test_weights_are_log_scaled_counts_times_rarity_to_unit_length():
    words = TfIdf(["a b", "a c", "a a"])
    bags = words.bags(["a a b"])
    a = (1 + math.log(2)) * (1 + math.log(4 / 4))
    b = 1 + math.log(4 / 2)
    found = dict(zip(bags.words.tolist(), bags.weights.tolist(), strict=True))
    assert found == pytest.approx({words.places["a"]: a / math.hypot(a, b), words.places["b"]: b / math.hypot(a, b)})


def test_the_fit_is_where_the_penalised_gradient_is_zero():
    model = BagOfWords(TEXTS, LABELS, 3, THREE.loss)
    bags = model.words.bags(TEXTS)
    error = model._of(bags).detach().softmax(-1) - torch.nn.functional.one_hot(LABELS, 3)
    dense = bags.times(torch.eye(len(model.words), dtype=torch.float64))
    # The penalty bends the sum by 1 or more in every direction, so the weights are as near to the best as this is to 0.
    assert (dense.T @ error + model.weight.detach()).abs().max() < 5e-3
    assert error.sum(0).abs().max() < 5e-3


def test_it_is_scikit_learns_logistic_regression():
    text = pytest.importorskip("sklearn.feature_extraction.text")
    linear_model = pytest.importorskip("sklearn.linear_model")
    theirs = text.TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+|[^\w\s]")
    x = theirs.fit_transform(TEXTS)
    fitted = linear_model.LogisticRegression(C=1.0, tol=1e-8, max_iter=1000).fit(x, LABELS.numpy())
    ours = BagOfWords(TEXTS, LABELS, 3, THREE.loss).outputs(TEXTS).softmax(-1)
    # 5e-4: ours sums the loss in float32 and stops at another small gradient.
    assert np.abs(fitted.predict_proba(x) - ours.numpy()).max() < 5e-4


def test_a_score_is_fitted_by_ridge_regression():
    scores = torch.tensor([float(text.count("alpha")) for text in TEXTS])
    scale = Scale.of(scores.tolist(), "test")
    model = BagOfWords(TEXTS, (scores - scale.mean) / scale.deviation, 1, scale.loss)
    assert pearson(model.outputs(TEXTS)[:, 0].double().numpy(), scores.double().numpy()) > 0.9


def test_texts_of_unknown_words_get_the_bias():
    model = BagOfWords(TEXTS, LABELS, 3, THREE.loss)
    assert torch.equal(model.outputs(["", "omega"])[0], model.bias.detach().float())
    assert torch.equal(model.outputs(["", "omega"])[1], model.bias.detach().float())


def test_overlap_is_of_sets_of_words():
    assert overlap("A cat sat", "a dog sat sat") == pytest.approx(2 / 4)
    assert overlap("", "") == 0


def test_the_threshold_is_the_best_of_all_thresholds():
    overlaps = RANDOM.random(60).round(1).tolist()
    labels = torch.tensor([int(value + 0.3 * RANDOM.standard_normal() > 0.5) for value in overlaps])
    fitted = OverlapThreshold(overlaps, labels, 2)
    found = (fitted.outputs(overlaps).argmax(1) == labels).float().mean().item()
    tried = [
        max(
            (torch.tensor(overlaps).ge(cut) == labels.bool()).float().mean().item()
            for cut in np.arange(-0.05, 1.1, 0.1)
        )
    ]
    assert found == pytest.approx(max(tried))


def test_labels_may_stand_either_way_round_and_be_more_than_two():
    fitted = OverlapThreshold([0.1, 0.2, 0.8, 0.9, 0.5], torch.tensor([2, 2, 0, 0, 1]), 3)
    assert fitted.outputs([0.0, 1.0]).argmax(1).tolist() == [2, 0]


def test_equal_scores_share_the_mean_of_their_ranks():
    scipy = pytest.importorskip("scipy.stats")
    one, other = RANDOM.integers(0, 5, 50).astype(float), RANDOM.random(50)
    assert spearman(one, other) == pytest.approx(scipy.spearmanr(one, other).statistic)
    assert pearson(one, other) == pytest.approx(scipy.pearsonr(one, other).statistic)


def test_what_is_constant_correlates_with_nothing():
    assert math.isnan(spearman(np.ones(4), np.arange(4.0)))
