"""The curves of a diagnosis as PNG and SVG; needs matplotlib (`pip install "addnorm[plot]"`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from addnorm.reports import numbers, palette
from addnorm.reports.diagnosis_page import CURVES, faults_on
from addnorm.reports.figures import drawing, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 3


def write_diagnosis_figures(diagnosis: dict[str, Any], folder: Path) -> list[Path]:
    """One picture a trunk: a panel a measure, faults as dashed uprights; without matplotlib none.

    Args:
        diagnosis: what `Diagnosis.to_dict` gives.
        folder: where `curves-0.png` and so on are written.
    """
    written: list[Path] = []
    with drawing() as figure_of:
        if figure_of is None:
            return []
        for number, each in enumerate(diagnosis["trunks"]):
            curves = {one["name"]: _known(one) for one in each["series"] if one["name"] in CURVES}
            chosen = {name: curve for name, curve in curves.items() if curve}
            if not chosen:
                continue
            rows = -(-len(chosen) // COLUMNS)
            figure = figure_of(12.0, 2.6 * rows)
            panels = figure.subplots(rows, COLUMNS, squeeze=False).flatten()
            faults = faults_on(each["trunk"], diagnosis)
            for panel, (name, curve) in zip(panels, chosen.items(), strict=False):
                _draw(panel, name, curve, [i for i in faults if i >= 0])
            for panel in panels[len(chosen) :]:
                panel.set_axis_off()
            figure.tight_layout()
            written += save(figure, folder / f"curves-{number}")
    return written


def _known(series: dict[str, Any]) -> list[tuple[int, float]]:
    values = [None if isinstance(value, list | tuple) else numbers.finite(value) for value in series["values"]]
    points = [(i, value) for i, value in enumerate(values) if value is not None]
    return points if len(points) > 1 else []


def _draw(panel: Axes, name: str, curve: list[tuple[int, float]], faults: list[int]) -> None:
    panel.set_title(name, fontsize=9)
    panel.plot([i for i, _ in curve], [value for _, value in curve], color=palette.LIGHT[1], marker="o", markersize=3)
    if CURVES[name] and all(value > 0 for _, value in curve):
        panel.set_yscale("log")
    for at in faults:
        panel.axvline(at, color=palette.THEMES["light"]["bad"], linestyle="--", linewidth=1)
