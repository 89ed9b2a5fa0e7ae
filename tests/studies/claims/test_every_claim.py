"""What holds for every claim; a new one needs a line in `sizes`."""

from __future__ import annotations

import json

import pytest

from addnorm import schemes
from addnorm.files import finite
from addnorm.reports.claims_page import claims_page
from addnorm.studies import claims
from addnorm.studies.claim import VERDICTS
from addnorm.studies.reproduce import outcome
from studies.claims.sizes import SMALL


def test_every_claim_has_a_small_size():
    assert set(SMALL) == set(claims.names()), "add a line to tests/studies/claims/sizes.py"


@pytest.mark.parametrize("name", claims.names())
def test_every_file_is_one_claim_with_all_its_texts(name):
    claim = claims.get(name)()
    assert claims.name_of(claim) == name
    for text in ("title", "statement", "number", "reference", "experiment", "embedding", "criterion"):
        assert len(getattr(claim, text)) >= 4, text
    assert "arXiv:" in claim.reference
    assert claim.about and set(claim.about) <= set(schemes.names())
    assert not claim.title.endswith(".") and claim.statement.endswith(".")


@pytest.mark.slow
@pytest.mark.parametrize("name", claims.names())
def test_every_experiment_runs_to_a_verdict_with_a_figure(name):
    shares: list[float] = []
    item = outcome(claims.get(name)(**SMALL[name]), shares.append)
    assert item["verdict"] in VERDICTS
    assert item["sentence"].endswith(".") and "nan" not in item["quantity"]
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1.0)
    stored = json.loads(json.dumps(finite(item)))
    page = claims_page({"claims": [stored], "addnorm": "0", "created": "2026-01-01"})
    assert page.count('class="chart wide"') == page.count('class="chart narrow"') == 1
