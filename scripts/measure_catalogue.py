"""Measure what docs/catalogue.md says of each scheme, and write docs/catalogue.json; then run build_catalogue.py.

python scripts/measure_catalogue.py             every scheme: some minutes of one core
python scripts/measure_catalogue.py mhc plain   certificates of these only, and the differences of all

Differences are those of the test suite: tests/oracles, and the comparisons in tests/schemes with packages and with
the equations, written a second time in float64. Each is relative to the larger of 1 and the largest entry compared.
Needs the packages of the `oracles` extra, torchscale and pytest.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import pytest

import addnorm
import agreement
import inside_transcription
import transcription
from addnorm import schemes
from addnorm.files import write_json
from oracles.cases import CASES
from oracles.ties import differences

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docs" / "catalogue.json"
DTYPES = {torch.float32: "float32", torch.float64: "float64"}
TRANSCRIPTION = "transcription"
ASSERTIONS = {"assert_agrees", "assert_inside_agrees", "assert_agree"}
# Tests that hold one scheme against a package by themselves: a part of the test's name, the scheme, the package.
PACKAGES = (
    ("the_connection_of_deepseek_v4_without_its_eps", "mhc", "transformers 5.23.0, DeepSeek-V4 without its eps"),
    ("the_connection_and_the_head_of_hy_v4", "identity-hc", "transformers 5.23.0, HY-V4"),
)
WHAT = {
    TRANSCRIPTION: "the whole stack",
    "transformers 5.23.0, DeepSeek-V4 without its eps": "one site, 4 streams",
    "transformers 5.23.0, HY-V4": "4 streams, stack and head",
    "hyper-connections 0.4.11": "4 streams, the whole stack",
    "attn-res 0.1.0": "its Transformer of 8 sublayers; blocks as given",
}
# Findings that depend on the machine's other work, or that compare with nothing.
LEFT_OUT = ("time",)

Sizes = dict[str, dict[str, float]]  # dtype to {"value": ..., "gradient": ...}


def _function(item: pytest.Item) -> Any:
    assert isinstance(item, pytest.Function)
    return item.function


@dataclass
class Recorder:
    """A pytest plugin: reads every comparison of tests/schemes as it is made.

    `sizes[scheme][oracle][dtype]` has the largest difference in value and in gradient.
    """

    sizes: dict[str, dict[str, Sizes]] = field(default_factory=lambda: defaultdict(dict))
    subject: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        check = agreement.is_within

        def recorded(tolerance: float, name: str, ours: torch.Tensor, expected: torch.Tensor) -> None:
            check(tolerance, name, ours, expected)
            self.note(tolerance, name, ours, expected)

        agreement.is_within = recorded
        for module, name in ((transcription, "assert_agrees"), (inside_transcription, "assert_inside_agrees")):
            setattr(module, name, self._about(getattr(module, name)))

    def _about(self, assertion: Any) -> Any:
        """The assertion, which first says which scheme it is about."""

        def run(scheme: addnorm.Scheme, *others: Any, **options: Any) -> None:
            self.subject = (schemes.name_of(scheme), TRANSCRIPTION)
            assertion(scheme, *others, **options)
            self.subject = None

        return run

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Only tests that compare with another computation."""
        items[:] = [item for item in items if ASSERTIONS & set(_function(item).__code__.co_names)]

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Which package the next test is about, if it is about one."""
        self.subject = package_of(item)

    def note(self, tolerance: float, name: str, ours: torch.Tensor, expected: torch.Tensor) -> None:
        """Keep a difference if it is the largest of its kind."""
        if self.subject is None or tolerance not in agreement.TOLERANCE.values():
            return  # compared with nothing, or after training
        dtype = next(DTYPES[dtype] for dtype, allowed in agreement.TOLERANCE.items() if allowed == tolerance)
        kind = "value" if name == "hidden" or name.startswith("output ") else "gradient"
        error = float((ours.to(expected.dtype) - expected).abs().max() / expected.abs().max().clamp_min(1.0))
        scheme, oracle = self.subject
        kept = self.sizes[scheme].setdefault(oracle, {}).setdefault(dtype, {"value": 0.0, "gradient": 0.0})
        kept[kind] = max(kept[kind], error)


def package_of(item: pytest.Item) -> tuple[str, str] | None:
    """The scheme and the package that a test holds against each other."""
    given = getattr(getattr(item, "callspec", None), "params", {})
    if "is_the_package_hyper_connections" in item.name:
        return ("hyper-connections" if given["dynamic"] else "static-hyper-connections"), "hyper-connections 0.4.11"
    if "is_the_transformer_of_the_package" in item.name:
        name = "attention-residuals" if given["num_blocks"] is None else "block-attention-residuals"
        return name, "attn-res 0.1.0"
    return next(((scheme, oracle) for part, scheme, oracle in PACKAGES if part in item.name), None)


def oracles_of_tests() -> dict[str, dict[str, Sizes]]:
    """What the comparisons of tests/schemes measure.

    Raises:
        SystemExit: one of them fails.
    """
    recorder = Recorder()
    code = pytest.main(["-q", "-p", "no:cacheprovider", str(ROOT / "tests" / "schemes")], [recorder])
    if code != pytest.ExitCode.OK:
        raise SystemExit("a comparison of tests/schemes fails; docs/catalogue.json is left as it was.")
    return recorder.sizes


def oracles_of_cases() -> dict[str, dict[str, Sizes]]:
    """What the comparisons of tests/oracles measure."""
    found: dict[str, dict[str, Sizes]] = defaultdict(dict)
    for case in CASES:
        oracle = TRANSCRIPTION if case.oracle == "its equation" else case.oracle
        sizes = found[schemes.name_of(schemes.parse(case.scheme))].setdefault(oracle, {})
        for dtype, name in DTYPES.items():
            one, kept = differences(case.build(dtype)), sizes.setdefault(name, {"value": 0.0, "gradient": 0.0})
            sizes[name] = {"value": max(one.value, kept["value"]), "gradient": max(one.gradient, kept["gradient"])}
    return found


def compared(name: str, oracle: str) -> list[str]:
    """What is compared of a scheme with an oracle, in words."""
    found = {
        case.what for case in CASES if case.oracle == oracle and schemes.name_of(schemes.parse(case.scheme)) == name
    }
    return sorted(found) or [WHAT[oracle]]


def merged(name: str, *sources: dict[str, dict[str, Sizes]]) -> list[dict[str, Any]]:
    """A scheme's oracles, packages first; where two sources have the same oracle, the larger differences."""
    found: dict[str, Sizes] = {}
    for source in sources:
        for oracle, sizes in source.get(name, {}).items():
            kept = found.setdefault(oracle, {})
            for dtype, size in sizes.items():
                before = kept.get(dtype, {"value": 0.0, "gradient": 0.0})
                kept[dtype] = {kind: max(before[kind], size[kind]) for kind in before}
    order = sorted(found, key=lambda oracle: (oracle == TRANSCRIPTION, oracle))
    return [
        {
            "oracle": oracle,
            "compared": compared(name, oracle),
            **{dtype: found[oracle][dtype] for dtype in DTYPES.values()},
        }
        for oracle in order
    ]


def certificate(name: str) -> dict[str, Any]:
    """What `addnorm certify` finds of a scheme with its default fields."""
    found = addnorm.certify(name).to_dict()
    applicable = [one for one in found["findings"] if one["name"] not in LEFT_OUT]
    # What is said of every scheme of the catalogue alike: it was set beside no other.
    kept = [one for one in applicable if "it is the catalogue's own" not in one["sentence"]]
    return {"holds": found["holds"], "findings": kept}


def main(names: list[str]) -> None:
    """Measure and write."""
    began = time.perf_counter()
    wanted = names or schemes.names()
    for name in wanted:
        schemes.get(name)
    measured = (oracles_of_cases(), oracles_of_tests())
    stored = json.loads(FILE.read_text())["schemes"] if FILE.exists() else {}
    for number, name in enumerate(wanted, start=1):
        print(f"certifying {name}, {number} of {len(wanted)}", file=sys.stderr)
        stored[name] = {"oracles": [], "certificate": certificate(name)}
    about = {package: metadata.version(package) for package in ("addnorm", "torch", "transformers")}
    known = {name: stored[name] | {"oracles": merged(name, *measured)} for name in schemes.names() if name in stored}
    write_json(FILE, {"measured_with": about, "schemes": known})
    print(f"{len(wanted)} schemes in {time.perf_counter() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
