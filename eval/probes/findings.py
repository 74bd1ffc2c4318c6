"""Probes for people and for other programs: the terminal's table, ``probe.md``, ``probe.csv`` and ``probe.json``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mm_adapter.core.files import write_json, write_text
from mm_adapter.data.templates import letter_of
from mm_adapter.eval.official_report import EMPTY, Table, markdown_text, to_csv, to_markdown, to_text
from mm_adapter.eval.probes.asking import ProbeResult
from mm_adapter.eval.probes.gain import VisualGain
from mm_adapter.eval.probes.neighbours import Similarity
from mm_adapter.eval.probes.rotations import Rotations

SHOWN_NEIGHBOURS = 20


@dataclass(frozen=True)
class Section:
    """A part of the report that comes from the model's inside.

    Attributes:
        title, text: for a reader.
        table: its figures, rounded.
        picture: name of the PNG beside the report, if there is one.
        figures: all of them, for ``probe.json``.
    """

    title: str
    text: str
    table: Table
    picture: str | None
    figures: Mapping[str, Any]


@dataclass(frozen=True)
class ProbeReport:
    """What the probes of one system showed.

    Attributes:
        name: of the system.
        split: of the data.
        questions, pictured: how many were asked, and how many of these have a picture.
        drawn_from: usable questions of the split, where a subset of them was drawn; else None.
        seed: of subset, pictures, rotations and intervals.
        accuracy, image_accuracy: unprobed, in percent; None without pictures.
        results: corrected for their number, in the order in which they were asked.
        gain, rotations, similarity: where they were asked for.
        not_applied: probe -> why it does not apply.
        skipped: pid -> why a bad question was left out of everything.
        notes: what a reader must know.
        sections: name -> what was read off the model itself.
    """

    name: str
    split: str
    questions: int
    pictured: int
    drawn_from: int | None
    seed: int
    accuracy: float
    image_accuracy: float | None
    results: Sequence[ProbeResult] = ()
    gain: VisualGain | None = None
    rotations: Rotations | None = None
    similarity: Similarity | None = None
    not_applied: Mapping[str, str] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    sections: Mapping[str, Section] = field(default_factory=dict)

    def table(self) -> Table:
        """Return one row for the unprobed run and for each probe."""
        header = [
            "probe",
            "accuracy",
            "IMG",
            "changed",
            "moved",
            "difference",
            "95 % interval",
            "corrected p",
            "verdict",
        ]
        unprobed = ["unprobed", _figure(self.accuracy), _figure(self.image_accuracy), *[EMPTY] * 6]
        return [header, unprobed, *map(_row, self.results)]

    def sentences(self) -> list[str]:
        """Return what the table means, a sentence each."""
        said = [f"{self.questions} questions of {self.split}, {self.pictured} with a picture."]
        if self.drawn_from is not None:
            said[0] = f"A subset of {said[0][:-1]}, drawn from {self.drawn_from} by seed {self.seed}."
        if self.skipped:
            said.append(f"{len(self.skipped)} bad questions were left out.")
        if self.gain is not None:
            said.append(_sentence(self.gain.sentence()))
        if self.rotations is not None:
            found = self.rotations
            kept = f"the same option is chosen in all rotations for {found.consistency:.1f} % of the questions"
            said += [_sentence(found.verdict), f"Over all rotations accuracy is {found.mean_accuracy:.1f} %; {kept}."]
        if self.similarity is not None:
            least, most = self.similarity.quartiles[0], self.similarity.quartiles[-1]
            said.append(
                f"Accuracy is {most.accuracy:.1f} % on the quarter most similar to training questions (similarity from "
                f"{most.low:.2f}) and {least.accuracy:.1f} % on the least similar (up to {least.high:.2f})."
            )
        said += self.notes
        return said + [f"Probe {name} does not apply: {reason}" for name, reason in self.not_applied.items()]

    def to_text(self) -> str:
        """Return table and sentences for a terminal."""
        return to_text(self.table()) + "\n".join(self.sentences())

    def to_json(self) -> dict[str, Any]:
        """Return every figure as values that JSON has."""
        return {
            "name": self.name,
            "split": self.split,
            "questions": self.questions,
            "with_picture": self.pictured,
            "drawn_from": self.drawn_from,
            "seed": self.seed,
            "unprobed": {"accuracy": self.accuracy, "image_accuracy": self.image_accuracy},
            "probes": {result.name: result.to_json() for result in self.results},
            "visual_gain": None if self.gain is None else self.gain.to_json(),
            "rotations": None if self.rotations is None else self.rotations.to_json(),
            "neighbours": None if self.similarity is None else self.similarity.to_json(),
            **{name: dict(section.figures) for name, section in self.sections.items()},
            "not_applied": dict(self.not_applied),
            "skipped": dict(self.skipped),
            "notes": list(self.notes),
        }

    def to_markdown(self) -> str:
        """Return the whole report."""
        parts = [
            f"# Probes of {markdown_text(self.name)}\n",
            "Accuracy in percent. *Changed* questions are asked again; *moved* of them are answered otherwise. "
            "Difference, in points, 95 % interval (paired bootstrap) and p (exact McNemar, corrected by Holm over the "
            "probes) are of the changed questions.\n",
            to_markdown(self.table()),
            "".join(f"- {sentence}\n" for sentence in self.sentences()),
            "".join(f"- {result.name}: {result.text}.\n" for result in self.results),
        ]
        if self.rotations is not None:
            parts += _rotation_parts(self.rotations)
        if self.similarity is not None:
            parts += _similarity_parts(self.similarity)
        for section in self.sections.values():
            parts += [f"## {section.title}\n", section.text + "\n", to_markdown(section.table)]
            parts += [] if section.picture is None else [f"![{section.title}]({section.picture})\n"]
        return "\n".join(part for part in parts if part)

    def csv_table(self) -> Table:
        """Return the table of probes with every figure in a column of its own, not rounded."""
        header = (
            "probe,accuracy,image_accuracy,changed,moved,only_unprobed,only_probed,difference,low,high,p_value,adjusted"
        )
        rows = [["unprobed", repr(self.accuracy), _exact(self.image_accuracy), *[""] * 9]]
        for result in self.results:
            found = result.comparison
            low, high = (None, None) if found.interval is None else (found.interval.low, found.interval.high)
            counts = [str(n) for n in (found.questions, result.moved, found.only_first, found.only_second)]
            figures = [found.difference, low, high, found.p_value, found.adjusted]
            accuracies = [repr(result.accuracy), _exact(result.image_accuracy)]
            rows.append([result.name, *accuracies, *counts, *map(_exact, figures)])
        return [header.split(","), *rows]


def write_probe_report(folder: Path, report: ProbeReport) -> None:
    """Write ``probe.md``, ``probe.csv`` and ``probe.json`` into ``folder``, each atomically.

    Raises:
        UserError: a file cannot be written.
    """
    write_text(folder / "probe.md", report.to_markdown())
    write_text(folder / "probe.csv", to_csv(report.csv_table()))
    write_json(folder / "probe.json", report.to_json())


def _row(result: ProbeResult) -> list[str]:
    found = result.comparison
    interval = EMPTY if found.interval is None else f"{found.interval.low:+.2f} to {found.interval.high:+.2f}"
    accuracies = [_figure(result.accuracy), _figure(result.image_accuracy)]
    tested = [f"{found.difference:+.2f}", interval, f"{found.adjusted:.2g}", found.verdict]
    return [result.name, *accuracies, str(found.questions), str(result.moved), *tested]


def _rotation_parts(found: Rotations) -> list[str]:
    shifts = [[str(shift), str(n), _figure(accuracy)] for shift, (accuracy, n) in found.accuracies.items()]
    positions = [
        [f"{row.options}, {letter_of(row.position)}", *map(_figure, (row.right, row.chosen, row.chosen_rotated))]
        for row in found.positions
    ]
    return [
        "## Rotated options\n",
        to_markdown([["rotated by", "questions", "accuracy"], *shifts]),
        "Where right and chosen options stand, in percent, by number of options and position:\n",
        to_markdown([["options, position", "right", "chosen", "chosen, all rotations"], *positions]),
    ]


def _similarity_parts(found: Similarity) -> list[str]:
    quarters = [
        [f"{quarter.low:.3f} to {quarter.high:.3f}", str(quarter.questions), _figure(quarter.accuracy)]
        for quarter in found.quartiles
    ]
    nearest = [
        [near.pid, near.nearest, f"{near.similarity:.3f}", "yes" if near.same_answer else "no"]
        for near in found.neighbours[:SHOWN_NEIGHBOURS]
    ]
    return [
        "## Nearest training questions\n",
        to_markdown([["similarity", "questions", "accuracy"], *quarters]),
        f"The {len(nearest)} questions most like a training question:\n",
        to_markdown([["pid", "nearest", "similarity", "same answer"], *nearest]),
    ]


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _figure(value: float | None) -> str:
    return EMPTY if value is None else f"{value:.2f}"


def _exact(value: float | None) -> str:
    return "" if value is None else repr(value)
