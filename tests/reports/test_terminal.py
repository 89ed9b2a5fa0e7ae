from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from addnorm.reports.terminal import ComparisonTable, comparison_table
from reports.example_results import example_results


def printed(results: dict[str, Any], width: int, **look: Any) -> str:
    screen = io.StringIO()
    Console(file=screen, width=width, highlight=False, **look).print(ComparisonTable(results=results))
    return screen.getvalue()


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_nothing_is_cut_off_or_wider_than_the_terminal(width: int) -> None:
    text = printed(example_results(), width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize("width", [80, 120])
def test_every_arm_has_its_numbers_and_verdict(width: int) -> None:
    results = example_results()
    flat = " ".join(printed(results, width).split())
    for arm in results["arms"]:
        loss = arm["validation_loss"]["mean"]
        assert (loss if isinstance(loss, str) else f"{loss:.3f}") in flat
        assert f"{arm['speed_ratio']['mean']:.2f}×" in flat
        assert f"{arm['activation_ratio']:.2f}×" in flat
    for half in ("±0.059", "±0.054"):
        assert half in flat
    for layers in (2, 24):
        assert f"{layers} layers" in flat


def test_verdicts_are_words_without_colour() -> None:
    plain = printed(example_results(), 120, no_color=True, force_terminal=True, color_system=None)
    assert "\x1b[3" not in plain
    for word in ("baseline", "better", "worse", "not decided", "does not train"):
        assert word in plain


def test_a_slow_scheme_is_charged_for_its_time() -> None:
    lines = printed(example_results(), 120).splitlines()
    better = next(i for i, line in enumerate(lines) if line.startswith("mhc") and "better" in line)
    assert lines[better + 1].strip() == "equal time: worse"


def test_the_answers_and_the_reasons_stand_below() -> None:
    results = example_results()
    flat = " ".join(printed(results, 120).split())
    for item in results["answers"]:
        assert item["question"] in flat and item["answer"] in flat
    failing = [arm for arm in results["arms"] if arm["verdict"] == "does not train"]
    assert len(failing) == 2
    for arm in failing:
        assert f"{arm['scheme']}, 24 layers: {arm['verdict_text']}" in flat


def test_markup_in_names_is_printed_as_it_is() -> None:
    results = example_results()
    results["arms"][1]["scheme"] = "post-norm(norm=[red])"
    assert "[red]" in printed(results, 160)


def test_several_learning_rates_get_a_column_or_a_name() -> None:
    results = example_results()
    copy = {**results["arms"][1], "learning_rate": 0.008, "id": "post-norm-L2-lr0.008"}
    results["arms"].insert(2, copy)
    assert "rate" in [column.header for column in comparison_table(results).columns]
    assert "0.008" in printed(results, 130)
    narrow = printed(results, 80)
    assert "post-norm @" in narrow and "0.008" in narrow
    assert max(map(len, narrow.splitlines())) <= 80


def test_a_small_difference_that_was_seen_gets_another_decimal() -> None:
    results = example_results()
    results["arms"][1] |= {"difference": {"mean": -0.0007, "half_width": 0.0004, "n": 3}, "verdict": "better"}
    text = printed(results, 80)
    assert "-0.0007" in text and "±0.0004" in text and "…" not in text


def test_an_arm_without_a_run_is_shown() -> None:
    results = example_results()
    nothing = {"mean": "nan", "half_width": None, "n": 0}
    results["arms"][1] |= {
        "validation_loss": nothing,
        "difference": None,
        "loss_at_equal_time": nothing,
        "difference_at_equal_time": None,
        "speed_ratio": None,
        "activation_ratio": "nan",
        "parameters": 0,
        "verdict": "does not train",
        "verdict_text": "No run ended.",
        "curves": [],
        "signals": {"steps": []},
    }
    assert "No run ended." in printed(results, 80)


def test_a_scheme_of_a_file_with_brackets_in_its_name_is_shown_whole_beside_its_metrics() -> None:
    results = example_results()
    score = {"name": "F1 [macro]", "mean": 50.0, "half_width": None}
    results["arms"] = [results["arms"][0] | {"scheme": "./mine[bold].py", "scores": [score]}]
    text = printed(results, 200)
    assert "./mine[bold].py" in text[text.index("own metrics") :] and "F1 [macro]" in text
