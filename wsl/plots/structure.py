"""A specification as a graph: tensors on the left, groups on the right, a line for every axis."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from wsl.plots.drawing import COLORS, Table, blank
from wsl.symmetry import PermutationSpec, format_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GAP, _LETTER = 1.8, 0.072
"""Inches between both sides, and of a letter of 8 points."""


def spec_figure(spec: PermutationSpec) -> Figure:
    """Tensors with their axes, groups with their sizes, and which group acts where."""
    left = [f"{name}: {format_axes(axes)}" for name, axes in spec.axes.items()]
    right = [f"{name} ({size})" for name, size in spec.groups.items()]
    figure, axes = _sheet(left, right)
    _write(axes, left, x=-0.06, align="right")
    _write(axes, right, x=_GAP + 0.1, align="left")
    _join(axes, spec)
    return figure


def _join(axes: Axes, spec: PermutationSpec) -> None:
    """A line from a tensor to a group for every axis, in the colour of the group."""
    starts, ends = dict(_placed(spec.axes)), dict(_placed(spec.groups))
    colors = {name: COLORS[i % len(COLORS)] for i, name in enumerate(spec.groups)}
    table = spec_table(spec)
    for tensor, group in zip(table["tensor"], table["group"], strict=True):
        axes.plot((0, _GAP), (starts[tensor], ends[group]), color=colors[group], linewidth=1.3)
    for group, height in ends.items():
        axes.plot(_GAP, height, "o", color=colors[group])


def _placed(things: Collection[str]) -> Iterator[tuple[str, float]]:
    """Things with their heights, from the top down."""
    return ((thing, -(i + 0.5) / len(things)) for i, thing in enumerate(things))


def _write(axes: Axes, words: list[str], *, x: float, align: str) -> None:
    for i, told in enumerate(words):
        height = -(i + 0.5) / len(words)
        axes.text(x, height, told, ha=align, va="center", fontsize=8)


def _sheet(left: list[str], right: list[str]) -> tuple[Figure, Axes]:
    """Axes that count inches across, as wide as the words of both sides need."""
    before, after = (_LETTER * max(map(len, side), default=0) + 0.2 for side in (left, right))
    rows = max(len(left), len(right), 1)
    figure = blank(figsize=(before + _GAP + after, 0.2 + 0.24 * rows))
    axes = figure.subplots()
    axes.set(xlim=(-before, _GAP + after), ylim=(-1.02, 0.02))
    axes.set_axis_off()
    return figure, axes


def spec_table(spec: PermutationSpec) -> Table:
    """Columns tensor, axis, group, size: a row for every axis on which a group acts."""
    table: Table = {"tensor": [], "axis": [], "group": [], "size": []}
    for group, size in spec.groups.items():
        for place in spec.occurrences(group):
            row = (place.tensor, place.axis, group, size)
            for column, value in zip(table.values(), row, strict=True):
                column.append(value)
    return table
