"""``mm-adapter probe``: a split asked again with something changed, and what the adapter looks like inside."""

import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mm_adapter.core.errors import UserError
from mm_adapter.data.question import Question, TableOptions
from mm_adapter.data.readers import read_dataset
from mm_adapter.data.templates import LETTERS, Prompting, QuestionTemplate
from mm_adapter.eval.metrics import judge
from mm_adapter.eval.predictions import UNREADABLE, Prediction, write_predictions
from mm_adapter.eval.probes import (
    PICTURE_CHANGES,
    ProbeResult,
    Rotations,
    ask,
    ask_rotations,
    corrected_results,
    measure,
    nearest_questions,
    picture_probe,
    similarity_to_training,
    visual_gain,
    without_context,
)
from mm_adapter.eval.probes.asking import pictured_pids, share
from mm_adapter.eval.probes.findings import ProbeReport, Section, write_probe_report
from mm_adapter.inference.answer_sets import choose_by_likelihood
from mm_adapter.model import MultimodalLlama
from mm_adapter.probing.choice import PROBES, choose_probes, not_applied, notes
from mm_adapter.probing.gates import draw_layers, gate_strengths, gates_section
from mm_adapter.probing.prompt_attention import prompt_attention
from mm_adapter.training.prepare import prepare, without_images

LABELS: dict[str, tuple[str, str | tuple[str, ...]]] = {
    "labels-numbers": ("options are labelled 1, 2, 3 instead of A, B, C", tuple(map(str, range(1, 27)))),
    "labels-letters": ("options are labelled N, O, P instead of A, B, C", LETTERS[13:] + LETTERS[:13]),
}
ATTENTION_SAMPLE = 64


def probe(
    model: MultimodalLlama,
    data: str,
    split: str | None,
    out: Path,
    names: Sequence[str] = ("all",),
    features: Path | None = None,
    seed: int = 0,
    limit: int | None = None,
    skip_bad: bool = False,
    name: str = "run",
    quiet: bool = False,
    log: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
    table: TableOptions | None = None,
) -> ProbeReport:
    """Probe a model; write probe.md, probe.json, probe.csv, PNGs and the predictions of each probe into ``out``.

    Args:
        model: with an adapter, or a base model.
        data: ScienceQA folder, or a table of questions with options.
        split: ``train``, ``val``, ``test``, or ``all`` of a table without splits; by default the one to evaluate.
        out: folder; the predictions of a probe are written when it is done.
        names: of ``PROBES``, or ``all`` for those that apply.
        features: folder of the feature store. Features of changed pictures go there too, under their own content.
        seed: of the subset, shuffled pictures, rotations and intervals.
        limit: probe so many questions of the split, drawn by the seed.
        skip_bad: leave out questions that cannot be used.
        name: of the run, in the report.
        quiet: show no progress.
        log: receives lines for a person.
        table: how a table is taken.

    Raises:
        UserError: bad data or arguments, or a probe that was named and does not apply; nothing is written then.
    """
    chosen = choose_probes(names)
    if not isinstance(model.prompting, Prompting):
        raise UserError("this adapter was taught conversations; probes ask questions with options. Name another one.")
    dataset = read_dataset(data, skip_bad=skip_bad, options=table)
    split = split or dataset.default_split
    questions = dataset.split(split)
    drawn_from = len(questions) if limit is not None and limit < len(questions) else None
    if drawn_from is not None and limit is not None:
        kept = set(random.Random(seed).sample(range(drawn_from), limit))
        questions = [question for index, question in enumerate(questions) if index in kept]
    reasons = not_applied(model, dataset, questions)
    for asked in chosen:
        if asked in reasons:
            raise UserError(f"--probes {asked}: {reasons[asked]} Leave it out.")
    told = (lambda line: None) if quiet else log
    told(f"asking {len(questions)} questions as they are")
    asking = _Asking(model, features, not quiet)
    unprobed, skipped = asking.unprobed(questions, skip_bad)
    questions = [question for question in questions if question.pid not in skipped]
    reasons = not_applied(model, dataset, questions)
    applied = [probe for probe in PROBES if probe not in reasons and (chosen == ("all",) or probe in chosen)]
    write_predictions(out / "predictions-unprobed.jsonl", unprobed)
    results, rotations = _ask_again(asking, questions, unprobed, applied, out, seed, told)
    by_name = {result.name: result for result in results}
    sections = _sections(asking, questions, applied, out, seed)
    right = judge(unprobed, questions, ())
    similarity = None
    if "neighbours" in applied:
        similarity = similarity_to_training(nearest_questions(dataset.split("train"), questions), right)
    report = ProbeReport(
        name=name,
        split=split,
        questions=len(questions),
        pictured=len(pictured_pids(questions)),
        drawn_from=drawn_from,
        seed=seed,
        accuracy=share(right, right) or 0.0,
        image_accuracy=share(right, pictured_pids(questions)),
        results=results,
        gain=visual_gain(questions, unprobed, by_name, seed),
        rotations=rotations,
        similarity=similarity,
        not_applied={probe: reason for probe, reason in reasons.items() if chosen == ("all",) or probe in chosen},
        skipped={**dataset.skipped(split), **skipped},
        notes=notes(model.template, applied),
        sections=sections,
    )
    write_probe_report(out, report)
    return report


@dataclass(frozen=True)
class _Asking:
    """How the model is asked: the one that is loaded, whatever is changed.

    Attributes:
        features: folder of the feature store.
        progress: show progress bars.
    """

    model: MultimodalLlama
    features: Path | None
    progress: bool

    def unprobed(self, questions: Sequence[Question], skip_bad: bool) -> tuple[list[Prediction], dict[str, str]]:
        """Return predictions, and pid -> reason of the questions that cannot be used."""
        prepared = prepare(self.model, self._seen(questions), skip_bad, self.features, self.progress)
        return choose_by_likelihood(self.model, prepared.examples), prepared.skipped

    def __call__(self, questions: Sequence[Question], template: QuestionTemplate | None = None) -> list[Prediction]:
        """Answer changed questions; what a change makes too long to be read counts as unreadable."""
        asked = self._seen(questions)
        prepared = prepare(self.model, asked, True, self.features, self.progress, template=template)
        found = {answer.pid: answer for answer in choose_by_likelihood(self.model, prepared.examples)}
        return [found.get(question.pid, Prediction(question.pid, UNREADABLE)) for question in questions]

    def _seen(self, questions: Sequence[Question]) -> list[Question]:
        return list(questions) if self.model.vision is not None else without_images(questions)


def _ask_again(
    asking: _Asking,
    questions: Sequence[Question],
    unprobed: Sequence[Prediction],
    applied: Sequence[str],
    out: Path,
    seed: int,
    told: Callable[[str], None],
) -> tuple[list[ProbeResult], Rotations | None]:
    """Run the probes that ask; return results corrected for their number."""
    results: list[ProbeResult] = []
    rotations = None

    def keep(result: ProbeResult) -> None:
        write_predictions(out / f"predictions-{result.name}.jsonl", result.predictions)
        results.append(result)

    with tempfile.TemporaryDirectory(prefix="mm-adapter-probe-") as folder:
        for name in applied:
            told(f"probe {name}")
            if name in PICTURE_CHANGES:
                keep(ask(picture_probe(name, Path(folder), seed), asking, questions, unprobed, seed))
            elif name == "no-context":
                keep(ask(without_context(), asking, questions, unprobed, seed))
            elif name == "rotations":
                rotations = ask_rotations(asking, questions, unprobed, seed)
                for shift, predictions in list(rotations.predictions.items())[1:]:
                    write_predictions(out / f"predictions-rotated-{shift}.jsonl", predictions)
                keep(rotations.result)
            elif name == "labels":
                for labelling, (text, labels) in LABELS.items():
                    answers = asking(questions, replace(asking.model.template, labels=labels))
                    by_pid = {answer.pid: answer for answer in answers}
                    keep(measure(labelling, text, questions, unprobed, by_pid, seed))
    return corrected_results(results), rotations


def _sections(
    asking: _Asking,
    questions: Sequence[Question],
    applied: Sequence[str],
    out: Path,
    seed: int,
) -> dict[str, Section]:
    """Look inside the adapter; draw what is found."""
    adapter = asking.model.adapter
    sections: dict[str, Section] = {}
    strengths = None if adapter is None else gate_strengths(adapter)
    if adapter is None or strengths is None:
        return sections
    if "gates" in applied:
        sections["gates"] = gates_section(strengths, adapter.first_layer)
        draw_layers(out / str(sections["gates"].picture), strengths.abs(), adapter.first_layer, "head")
    if "attention" in applied:
        sample = random.Random(seed).sample(list(questions), min(ATTENTION_SAMPLE, len(questions)))
        seen = sample if asking.model.vision is not None else without_images(sample)
        prepared = prepare(asking.model, seen, True, asking.features, asking.progress)
        found = prompt_attention(asking.model, prepared.examples)
        sections["attention"] = found.section()
        path = out / str(sections["attention"].picture)
        draw_layers(path, found.ratios, adapter.first_layer, "kind of token", found.kinds)
    return sections
