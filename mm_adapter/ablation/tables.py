"""The paper's ablation tables, ours beside the published figures, and one of all settings."""

from collections.abc import Sequence

from mm_adapter.ablation.claims import Finding
from mm_adapter.ablation.grid import format_value
from mm_adapter.ablation.paper_figures import Published, PublishedTable
from mm_adapter.ablation.result import PointResult
from mm_adapter.ablation.spread import Group, Spread, group, spread
from mm_adapter.eval.official_report import COLUMNS, EMPTY, Table

_SPREAD_HEADER = ["seeds", "accuracy", "sd", "min-max"]


def paper_table(published: PublishedTable, results: Sequence[PointResult]) -> Table | None:
    """Return one of the paper's tables with our runs; None where the grid does not vary its setting.

    The published figure stands in the row of the same value, or in a row of its own where we have no such value; runs
    with random-init attention have one in the table of attention alone, as the paper's other tables are of zero-init.
    """
    axis = published.axis
    groups = [member for member in group(results) if axis in member.setting]
    if not groups:
        return None
    header = ["", *_SPREAD_HEADER]
    if published.with_losses:
        header += ["train loss", "val loss", "val accuracy at the end"]
        header += ["published train loss", "published val loss"]
    table: Table = [[*header, "published"]]
    missing = dict(published.rows)
    # Rows that differ in this setting alone stand together.
    rest = list(dict.fromkeys(repr(member.without(axis)) for member in groups))
    for member in sorted(groups, key=lambda member: rest.index(repr(member.without(axis)))):
        value = member.setting[axis]
        of_method = axis == "attention" or member.results[0].config["attention"] == "zero-init"
        row = [member.label, *_spread_cells(member.accuracy)]
        figures = published.rows.get(value) if of_method else None
        if figures is not None:
            missing.pop(value, None)
        if published.with_losses:
            row += _loss_cells(member)
            row += _published_losses(figures)
        table.append([*row, EMPTY if figures is None else f"{figures.accuracy:.2f}"])
    for value, figures in missing.items():
        row = [f"{axis} = {format_value(value)}, the paper"] + [EMPTY] * len(_SPREAD_HEADER)
        if published.with_losses:
            row += [EMPTY] * 3 + _published_losses(figures)
        table.append([*row, _number(figures.accuracy, 2)])
    return table


def settings_table(results: Sequence[PointResult]) -> Table:
    """Return all settings: accuracy over seeds, then means of what training says, its cost and its size."""
    header = ["", *_SPREAD_HEADER, "train loss", "val loss", "val accuracy at the end", "parameters", "seconds a run"]
    rows = [
        [
            member.label,
            *_spread_cells(member.accuracy),
            *_loss_cells(member),
            f"{member.results[0].trained_parameters:,}",
            f"{_mean(member, 'seconds'):.0f}",
        ]
        for member in group(results)
    ]
    return [header, *rows]


def classes_table(results: Sequence[PointResult]) -> Table:
    """Return mean accuracy over seeds in the official classes, percent."""
    rows = []
    for member in group(results):
        cells = []
        for key in COLUMNS.values():
            found = [value for result in member.results if (value := result.accuracy.get(key)) is not None]
            cells.append(_number(spread(found).mean, 2) if found else EMPTY)
        rows.append([member.label, *cells])
    return [["", *COLUMNS], *rows]


def claims_table(found: Sequence[Finding]) -> Table:
    """Return every comparison with its difference in points, interval and verdict."""
    rows = []
    for finding in found:
        interval = EMPTY if finding.low is None else f"{finding.low:+.2f} to {finding.high:+.2f}"
        cells = [finding.compared, str(finding.seeds), f"{finding.difference:+.2f}", interval, finding.verdict]
        rows.append([finding.claim, *cells])
    return [["claim", "compared", "seeds", "difference", "95% interval", "verdict"], *rows]


def runs_table(results: Sequence[PointResult]) -> Table:
    """Return every run in a row of its own, for a spreadsheet."""
    axes = list(dict.fromkeys(key for result in results for key in result.values))
    figures = ["train_loss", "val_loss", "val_accuracy", "trained_parameters", "train_seconds", "seconds"]
    rows = [
        [
            result.name,
            *(format_value(result.values.get(axis, "")) for axis in axes),
            result.split,
            *(_number(result.accuracy.get(key), 2) for key in COLUMNS.values()),
            *(str(getattr(result, figure)) for figure in figures),
        ]
        for result in results
    ]
    return [["run", *axes, "split", *COLUMNS, *figures], *rows]


def _spread_cells(found: Spread) -> list[str]:
    return [str(found.count), f"{found.mean:.2f}", _number(found.deviation, 2), f"{found.low:.2f}-{found.high:.2f}"]


def _loss_cells(member: Group) -> list[str]:
    return [
        f"{_mean(member, 'train_loss'):.4f}",
        f"{_mean(member, 'val_loss'):.4f}",
        f"{_mean(member, 'val_accuracy'):.2f}",
    ]


def _published_losses(figures: Published | None) -> list[str]:
    return [EMPTY, EMPTY] if figures is None else [_number(figures.train_loss, 3), _number(figures.val_loss, 3)]


def _mean(member: Group, figure: str) -> float:
    return spread(list(member.by_seed(figure).values())).mean


def _number(value: float | None, digits: int) -> str:
    return EMPTY if value is None else f"{value:.{digits}f}"
