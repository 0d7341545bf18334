"""Drawings with axes, for TensorBoard. They need matplotlib, an extra; without it there are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dlcli.functional.objectives import Objective

MOST_NAMES = 10  # in a legend


def trajectory(objective: Objective, way: Tensor) -> dict[str, Tensor]:
    """The points (T, D) of a way over the graph (D = 1) or the contour lines (D = 2) of a function.

    Returns:
        {"trajectory": picture (3, H, W) uint8}; nothing without matplotlib or for other dimensions.
    """
    figure = _figure()
    if figure is None or objective.dimension > 2:
        return {}
    axes = figure.add_subplot()
    way = way[way.isfinite().all(1)].clamp(3 * objective.low, 3 * objective.high)
    grid = torch.linspace(
        min(objective.low, *way.flatten().tolist()), max(objective.high, *way.flatten().tolist()), 200
    )
    if objective.dimension == 1:
        axes.plot(grid, objective.function(grid.unsqueeze(1)), color="grey")
        axes.plot(way[:, 0], objective.function(way), "o-", color="tab:red", markersize=3)
    else:
        second, first = torch.meshgrid(grid, grid, indexing="ij")
        axes.contour(first, second, objective.function(torch.stack([first, second], -1)), 20, cmap="viridis")
        axes.plot(way[:, 0], way[:, 1], "o-", color="tab:red", markersize=3)
        axes.set_xlabel("x1")
        axes.set_ylabel("x2")
    return {"trajectory": _pixels(figure)}


def points_and_line(points: Tensor, line: Tensor, x: str, y: str) -> Tensor | None:
    """Points (N, 2) and the line through points (M, 2), with the axes' names.

    Returns:
        (3, H, W) uint8; None without matplotlib.
    """
    figure = _figure()
    if figure is None:
        return None
    axes = figure.add_subplot(xlabel=x, ylabel=y)
    axes.plot(points[:, 0], points[:, 1], ".", markersize=4)
    axes.plot(line[:, 0], line[:, 1], color="tab:red")
    return _pixels(figure)


def uncertain_function(
    line: Tensor, mean: Tensor, lower: Tensor, upper: Tensor, drawn: Tensor, points: Tensor | None
) -> Tensor | None:
    """A function of inputs (M,) that is known by its mean and a band, (M,) each, with drawn functions (S, M).

    Args:
        points: what was observed, (N, 2); None for nothing.

    Returns:
        (3, H, W) uint8; None without matplotlib.
    """
    figure = _figure()
    if figure is None:
        return None
    axes = figure.add_subplot(xlabel="input", ylabel="target")
    axes.fill_between(line, lower, upper, color="tab:blue", alpha=0.2, linewidth=0, label="95 %")
    axes.plot(line, drawn.T, linewidth=0.8, alpha=0.7)
    axes.plot(line, mean, color="black", label="mean")
    if points is not None:
        axes.plot(points[:, 0].cpu(), points[:, 1].cpu(), ".", color="tab:red", markersize=4, label="training data")
    axes.legend(fontsize="x-small", loc="lower left")
    return _pixels(figure)


def zipf(frequencies: Mapping[str, Tensor]) -> Tensor | None:
    """Frequencies in descending order, (N,) each, over their rank, both on logarithmic axes: straight by Zipf's law.

    Returns:
        (3, H, W) uint8; None without matplotlib.
    """
    figure = _figure()
    if figure is None:
        return None
    axes = figure.add_subplot(xlabel="rank", ylabel="frequency", xscale="log", yscale="log")
    for name, counts in frequencies.items():
        axes.plot(range(1, len(counts) + 1), counts.cpu(), label=name)
    axes.legend(fontsize="x-small", loc="upper right")
    return _pixels(figure)


def scatter(points: Tensor, labels: Sequence[str]) -> Tensor | None:
    """Points (N, 2) in the plane, a colour for each of the N labels.

    Returns:
        (3, H, W) uint8; None without matplotlib.
    """
    figure = _figure()
    if figure is None:
        return None
    axes = figure.add_subplot(xticks=[], yticks=[])
    names = sorted(set(labels))
    for number, name in enumerate(names):
        rows = [row for row, label in enumerate(labels) if label == name]
        axes.scatter(points[rows, 0], points[rows, 1], s=6, color=f"C{number}", label=name)
    if 1 < len(names) <= MOST_NAMES:
        axes.legend(fontsize="x-small", markerscale=2, loc="upper left", bbox_to_anchor=(1, 1))
    return _pixels(figure)


def signal_sizes(sizes: Sequence[tuple[str, float, float]]) -> Tensor | None:
    """Layers (name, size of the output, size of the gradient) from the first to the last, by powers of ten.

    Returns:
        (3, H, W) uint8; None without matplotlib.
    """
    figure = _figure()
    if figure is None:
        return None
    axes = figure.add_subplot(xlabel="layer", ylabel="power of ten of the root mean square")
    numbers = torch.tensor([size[1:] for size in sizes], dtype=torch.float64)  # (L, 2)
    powers = torch.where(numbers > 0, numbers.log10(), torch.nan)
    for column, name in enumerate(("output", "gradient")):
        axes.plot(range(1, len(sizes) + 1), powers[:, column], "o-", markersize=3, label=name)
    if len(sizes) <= MOST_NAMES:
        axes.set_xticks(range(1, len(sizes) + 1), [size[0] for size in sizes], rotation=45, ha="right")
    axes.legend()
    return _pixels(figure)


def _figure() -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    figure = Figure(figsize=(5, 4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _pixels(figure: Any) -> Tensor:
    """A figure as a picture, (3, H, W) uint8."""
    import numpy as np

    figure.canvas.draw()
    return torch.from_numpy(np.asarray(figure.canvas.buffer_rgba())[:, :, :3].copy()).permute(2, 0, 1)
