"""An ablation as people and programs read it: Markdown, CSV and JSON, whole or as far as it has come."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mm_adapter.ablation.claims import RULE, findings, summary
from mm_adapter.ablation.paper_figures import SOURCE, TABLES
from mm_adapter.ablation.result import PointResult
from mm_adapter.ablation.spread import group
from mm_adapter.ablation.tables import claims_table, classes_table, paper_table, runs_table, settings_table
from mm_adapter.core.errors import UserError
from mm_adapter.core.files import read_json, write_json, write_text
from mm_adapter.eval.official_report import Table, to_csv, to_markdown, to_text

JSON_FILE, MARKDOWN_FILE, CSV_FILE = "ablation.json", "ablation.md", "ablation.csv"


@dataclass(frozen=True)
class Report:
    """How far a grid has come.

    Attributes:
        grid: its name.
        split: whose questions were answered.
        used: split -> questions used.
        whole: split -> questions that there are.
        total: points of the grid.
        results: of the points that are finished, in the grid's order.
        failed: name of a point -> why it ended.
    """

    grid: str
    split: str
    used: Mapping[str, int]
    whole: Mapping[str, int]
    total: int
    results: tuple[PointResult, ...]
    failed: Mapping[str, str]

    def tables(self) -> dict[str, Table]:
        """Return title -> table: the paper's, all settings, official classes, claims."""
        if not self.results:
            return {}
        found = {f"{entry.title}, published: {entry.split}": paper_table(entry, self.results) for entry in TABLES}
        tables = {title: table for title, table in found.items() if table is not None}
        tables["All settings"] = settings_table(self.results)
        tables["By class, means over seeds"] = classes_table(self.results)
        held = findings(self.results)
        if held:
            tables["Claims"] = claims_table(held)
        return tables

    def preface(self) -> list[str]:
        """Return what a reader of the figures must know first, a line each."""
        counts = [
            f"{split} {self.used[split]:,}" + (f" of {count:,}" if self.used[split] < count else "")
            for split, count in self.whole.items()
        ]
        lines = [f"{len(self.results)} of {self.total} runs are in these tables. Questions: {', '.join(counts)}."]
        if any(self.used[split] < count for split, count in self.whole.items()):
            lines.append("Where not all questions of a split are used, it is a seeded choice, the same for all runs.")
        missing = self.total - len(self.results) - len(self.failed)
        if missing:
            lines.append(f"{missing} runs are missing: they were not run yet.")
        if self.failed:
            lines.append(f"{len(self.failed)} runs failed; they are named below.")
        if self.results:
            llamas = sorted({str(result.config["llama"]) for result in self.results})
            lines.append(
                f"Base model: {', '.join(llamas)}. Accuracy: percent of the {self.split} questions, answered by the "
                "weights that validated best; mean over seeds, sample standard deviation (sd), least and most. Train "
                "loss: mean over the last epoch, of ranking and language model; val loss: ranking, at the end."
            )
            lines.append(f"Published: {SOURCE}. Another model, other questions: beside, not against, these figures.")
        return lines

    def to_markdown(self, level: int = 1) -> str:
        """Return the report; its title is a heading of this level."""
        parts = [f"{'#' * level} Ablation: {self.grid}\n", "\n".join(self.preface()) + "\n"]
        for title, table in self.tables().items():
            parts += [f"{'#' * (level + 1)} {title}\n", to_markdown(table)]
            if title == "Claims":
                parts += ["\n".join(summary(findings(self.results))) + "\n", RULE + "\n"]
        if self.failed:
            parts += [
                f"{'#' * (level + 1)} Failed\n",
                to_markdown([["run", "reason"], *map(list, self.failed.items())]),
            ]
        return "\n".join(parts)

    def to_text(self) -> str:
        """Return the tables for a terminal."""
        parts = ["\n".join(self.preface())]
        parts += [f"{title}\n{to_text(table)}" for title, table in self.tables().items()]
        if self.results:
            parts.append("\n".join(summary(findings(self.results))))
        return "\n\n".join(part.rstrip() for part in parts if part) + "\n"

    def to_json(self) -> dict[str, Any]:
        """Return everything, with groups and claims as they were computed."""
        groups = [{**member.setting, "accuracy": asdict(member.accuracy)} for member in group(self.results)]
        return {**asdict(self), "settings": groups, "claims": [asdict(found) for found in findings(self.results)]}

    def write(self, folder: Path) -> None:
        """Write ``ablation.md``, ``ablation.csv`` and ``ablation.json`` into ``folder``, each atomically."""
        write_json(folder / JSON_FILE, self.to_json())
        write_text(folder / CSV_FILE, to_csv(runs_table(self.results)))
        write_text(folder / MARKDOWN_FILE, self.to_markdown())


def read_report(folder: Path) -> Report:
    """Read what ``Report.write`` wrote.

    Raises:
        UserError: there is none, or it is damaged.
    """
    path = folder / JSON_FILE
    content = read_json(path, "report of an ablation")
    try:
        values = {field.name: content[field.name] for field in fields(Report)}
        known = [field.name for field in fields(PointResult)]
        values["results"] = tuple(PointResult(**{name: entry[name] for name in known}) for entry in content["results"])
        return Report(**values)
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: no report of an ablation ({error}); run mm-adapter ablate again.") from error
