"""Figures for papers and READMEs, as PNG and SVG; needs matplotlib (`pip install "addnorm[plot]"`)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from addnorm.files import write_atomically
from addnorm.reports import numbers, palette, wording
from addnorm.reports.charts import AXIS_NAMES
from addnorm.reports.series import (
    Axis,
    Series,
    all_series,
    diverges,
    equal_time,
    loss_range,
    mean_curve,
    signal,
    spread,
)
from addnorm.reports.table import depths

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOG = logging.getLogger("addnorm")

# A README shows 10 inches at some 830 pixels: 10 points are then 11 to 12 pixels.
_WIDTH = 10.0
_MUTED = palette.THEMES["light"]["muted"]
_RC: dict[str, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": palette.THEMES["light"]["edge"],
    "axes.labelcolor": _MUTED,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "text.color": palette.LIGHT[0],
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": palette.THEMES["light"]["rule"],
    "axes.axisbelow": True,
    "svg.hashsalt": "addnorm",
}
_MARKERS = {
    "circle": "o",
    "square": "s",
    "triangle": "^",
    "diamond": "D",
    "down": "v",
    "plus": "P",
    "pentagon": "p",
    "cross": "X",
}
_MOMENTS = ((0, "before training"), (-1, "at the last measurement"))


def write_figures(results: dict[str, Any], folder: Path) -> list[Path]:
    """Write every figure as PNG and SVG; without matplotlib none, and one line that says so.

    Equal results give equal files: no date, no random identifiers.
    """
    written = []
    with drawing() as figure_of:
        if figure_of is None:
            return []
        for name, draw in _figures().items():
            figure = figure_of(_WIDTH, 4)
            draw(figure, results)
            written += save(figure, folder / name)
    return written


@contextmanager
def drawing() -> Iterator[Callable[[float, float], Figure] | None]:
    """Within it figures look alike whatever the user's settings: a maker of figures by width and height in inches.

    None without matplotlib, and one line that says so.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        LOG.warning('No figures: matplotlib is not installed; pip install "addnorm[plot]" brings it.')
        yield None
        return
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC)
        yield lambda width, height: Figure(figsize=(width, height), facecolor="white")


def _figures() -> dict[str, Callable[[Figure, dict[str, Any]], None]]:
    """File name to drawing."""
    return {
        "loss-by-tokens": partial(_losses, axis="tokens"),
        "loss-by-time": partial(_losses, axis="wall_s"),
        "gradient-by-depth": partial(_through_depth, name="state_grad_norm", title="Gradient norm of the state"),
        "rms-by-depth": partial(_through_depth, name="state_rms", title="RMS of the state"),
    }


def save(figure: Figure, stem: Path) -> list[Path]:
    """PNG and SVG, without the date that matplotlib would write."""
    paths = []
    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
        path = stem.with_suffix(f".{kind}")
        write_atomically(path, partial(figure.savefig, format=kind, dpi=160, metadata=metadata))
        paths.append(path)
    return paths


def _losses(figure: Figure, results: dict[str, Any], *, axis: Axis) -> None:
    """One panel a depth, below each other; names at the ends of the curves."""
    levels = depths(results)
    figure.set_size_inches(_WIDTH, 3.5 * len(levels) + 0.4)
    panels = figure.subplots(len(levels), 1, squeeze=False)[:, 0]
    figure.subplots_adjust(left=0.07, right=0.72, top=1 - 0.32 / figure.get_figheight(), hspace=0.42, bottom=0.08)
    unigram = numbers.finite((results.get("data") or {}).get("unigram_entropy"))
    for panel, layers in zip(panels, levels, strict=True):
        here = [item for item in all_series(results) if item.layers == layers]
        panel.set_title(f"{numbers.layers(layers)}: validation loss, {wording.loss_name(results)}")
        panel.set_xlabel(AXIS_NAMES[axis], loc="right")
        panel.xaxis.set_major_formatter(lambda value, _: numbers.tick(value))
        panel.set_ylim(*loss_range(here, unigram))
        drawn = [(item, curve) for item in here if (curve := mean_curve(item.arm, axis))]
        for item, curve in drawn:
            _line(panel, item, [x for x, _ in curve], [y for _, y in curve])
        panel.set_xlim(0, max((curve[-1][0] for _, curve in drawn), default=1.0) * 1.01)
        _references(panel, unigram, equal_time(here) if axis == "wall_s" else None, wording.chance_name(results))
        _names_at_ends(panel, [(item, curve[-1]) for item, curve in drawn])


def _references(panel: Axes, unigram_entropy: float | None, equal_s: float | None, chance: str) -> None:
    """Dotted lines: what knowing the frequency of each token gives, and where losses at equal time are read."""
    look: dict[str, Any] = {"color": _MUTED, "linewidth": 0.8, "linestyle": (0, (2, 4))}
    note: dict[str, Any] = {"textcoords": "offset points", "ha": "right", "fontsize": 9, "color": _MUTED}
    if unigram_entropy is not None:
        panel.axhline(unigram_entropy, **look)
        place = {"xy": (1, unigram_entropy), "xycoords": ("axes fraction", "data"), "xytext": (-4, -12)}
        panel.annotate(f"{chance} {unigram_entropy:.2f}", **place, **note)
    if equal_s is not None:
        panel.axvline(equal_s, **look)
        place = {"xy": (equal_s, 1), "xycoords": ("data", "axes fraction"), "xytext": (4, -9)}
        panel.annotate(f"equal time {equal_s:.1f} s", **place, **(note | {"ha": "left"}))


def _line(panel: Axes, item: Series, x: Sequence[float], y: Sequence[float | None], every: int = 1) -> None:
    colour = palette.LIGHT[item.style.colour]
    dash = [float(part) / 2 for part in item.style.dash.split()]
    panel.plot(
        x,
        [float("nan") if value is None else value for value in y],
        color=colour,
        linewidth=1.8,
        linestyle=(0, tuple(dash)) if dash else "-",
        marker=_MARKERS[item.style.marker],
        markersize=5.5,
        markevery=every,
        label=item.label,
    )


def _names_at_ends(panel: Axes, ends: Sequence[tuple[Series, tuple[float, float]]]) -> None:
    """Names right of the panel, moved apart, tied to the curves' ends by thin lines."""
    low, high = panel.get_ylim()
    height = panel.get_window_extent().height * 72 / panel.figure.dpi  # points
    wanted = [min(max((y - low) / (high - low), 0.0), 1.0) * height for _, (_, y) in ends]
    placed = spread(wanted, 14.0, 0.0, height)
    free: dict[str, Any] = {"transform": panel.transAxes, "clip_on": False, "linestyle": ""}
    for (item, (x, _)), start, at in zip(ends, wanted, placed, strict=True):
        broken = diverges(item.arm)
        end, bad = x / panel.get_xlim()[1], palette.THEMES["light"]["bad"]
        if broken:  # a line to its name would look like its continuation
            panel.plot([end], [start / height], marker="x", markersize=10, markeredgewidth=2, color=bad, **free)
        elif end > 0.9:  # a longer line would look like a curve
            link = free | {"linestyle": "-", "linewidth": 0.7}
            panel.plot([end + 0.012, 1.04], [start / height, at / height], color=_MUTED, **link)
        look = {"marker": _MARKERS[item.style.marker], "markersize": 6, "color": palette.LIGHT[item.style.colour]}
        panel.plot([1.055], [at / height], **free, **look)
        name = f"{item.label} (diverged)" if broken else item.label
        panel.text(1.07, at / height, name, transform=panel.transAxes, va="center_baseline")


def _through_depth(figure: Figure, results: dict[str, Any], *, name: str, title: str) -> None:
    """One row of panels a depth: before training and at the last measurement; the names below."""
    from matplotlib.ticker import MaxNLocator

    levels = depths(results)
    height = 3.0 * len(levels) + 1.4
    figure.set_size_inches(_WIDTH, height)
    panels = figure.subplots(len(levels), len(_MOMENTS), squeeze=False, sharey="row")
    figure.subplots_adjust(left=0.06, right=0.985, top=1 - 0.75 / height, bottom=1.15 / height, wspace=0.06, hspace=0.5)
    for row, layers in zip(panels, levels, strict=True):
        here = [item for item in all_series(results) if item.layers == layers]
        for panel, (moment, words) in zip(row, _MOMENTS, strict=True):
            for item in here:
                values = signal(item.arm, name, moment)
                _line(panel, item, range(len(values)), values, every=max(1, len(values) // 8))
            panel.set_title(f"{numbers.layers(layers)}, {words}")
            panel.set_xlabel("sublayers passed, from the entrance", loc="right")
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        _log_scale(row[0])
    figure.text(0.012, 1 - 0.25 / height, title, fontsize=12, fontweight="bold")
    handles: dict[str, Any] = {}
    for panel in panels.flat:
        handles |= dict(zip(*reversed(panel.get_legend_handles_labels()), strict=True))
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0.05, 0.0), "ncols": 3}
    figure.legend(handles.values(), handles.keys(), frameon=False, handlelength=4, **place)


def _log_scale(panel: Axes) -> None:
    """A logarithmic y axis; where it spans few decades, ticks at 1, 2 and 5 in plain digits."""
    from matplotlib.ticker import LogLocator, NullFormatter

    panel.set_yscale("log")
    low, high = panel.get_ylim()
    if high / low < 300:
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter(lambda value, _: numbers.short(value))
    panel.yaxis.set_minor_formatter(NullFormatter())
