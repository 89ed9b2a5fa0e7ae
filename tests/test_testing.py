"""The laws from outside: a user's own suite runs them all on a scheme of theirs."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from addnorm import Scheme, UserError, testing
from addnorm.residual import Site
from addnorm.schemes.pre_norm import PreNormConnection


class Leaks(PreNormConnection):
    def write(self, skip: Tensor, update: Tensor) -> Tensor:
        return skip + update + (update.flatten(0, -2).mean(0) if update.dim() > 1 else 0)


@dataclass(frozen=True, kw_only=True)
class Leaking(Scheme):
    """A scheme whose connection mixes tokens."""

    def connection(self, d_model: int, site: Site) -> Leaks:
        return Leaks(d_model, self.norm)


@pytest.mark.slow
def test_a_scheme_of_ones_own_passes_every_law_without_pytest_and_without_our_tests(tmp_path: Path) -> None:
    file = Path(__file__).parents[1] / "examples" / "your_own_scheme.py"
    (tmp_path / "mine.py").write_text(file.read_text())
    code = "import sys, mine; print(mine.main()); sys.exit('pytest' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "./mine.py(alpha=0.3) holds every law" in done.stdout


@pytest.mark.slow
def test_a_broken_scheme_is_told_every_law_that_it_breaks() -> None:
    state = torch.get_rng_state()
    with pytest.raises(AssertionError) as error:
        testing.check_scheme(Leaking(), skip=["every_block_compiles_whole"])
    said = str(error.value)
    assert f"test_testing.py breaks {said.count(chr(10)) // 2} of {len(testing.LAWS) - 1} laws\n" in said
    assert "the_future_does_not_leak: Another last token changes no earlier logit by a single bit." in said
    assert "a_connection_never_mixes_tokens: " in said and "it_keeps_the_shape" not in said
    assert torch.equal(torch.get_rng_state(), state)


def test_a_law_may_be_left_out_by_name() -> None:
    testing.check_scheme(Leaking(), skip=[*testing.LAWS.keys() - {"it_keeps_the_shape"}])
    with pytest.raises(UserError, match="law 'the_future_does_not_leek' is unknown; did you mean 'the_future_does_"):
        testing.check_scheme(Leaking(), skip=["the_future_does_not_leek"])


@pytest.mark.parametrize("given", [Leaking, "pre-norm", Leaks(8, "layer")])
def test_what_is_no_scheme_is_told_so(given: object) -> None:
    with pytest.raises(UserError, match="is no scheme; give an object of yours, such as Mine()"):
        testing.check_scheme(given)  # pyrefly: ignore


def test_laws_are_not_skipped_in_silence_where_assertions_are_off() -> None:
    names = {"__name__": testing.__name__}
    exec(compile(Path(testing.__file__).read_text(), "testing", "exec", optimize=1), names)  # as python -O does
    with pytest.raises(UserError, match="run python without -O"):
        names["check_scheme"](Leaking())  # type: ignore
