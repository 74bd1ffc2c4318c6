"""Samples that lmms-eval logs (github.com/EvolvingLMMs-Lab/lmms-eval, ``--log_samples``), old and new.

New files have one sample a line, old ones are one JSON object with a list ``logs``. A sample has ``doc_id``, the place
of the question in the task's split, counted from 0; ``target``, the letter of its right answer; ``filtered_resps`` (or
``resps``), what the model wrote; in old files also ``doc``, the question itself. No sample has a pid: it is found by
the ``doc`` where there is one and else by the place, in the split's order, of all questions or (``scienceqa_img``) of
those with a picture. The name of a file, ``..._samples_scienceqa_img.jsonl``, tells which, and else the targets do. A
run with ``--limit`` has the first places alone. Every ``target`` is held against the answer of the question found, so
that a file of another split or order is refused and not scored.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mm_adapter.core.errors import UserError
from mm_adapter.data.question import Question
from mm_adapter.eval.checks import shortened
from mm_adapter.eval.layouts.json_text import prediction
from mm_adapter.eval.parsing import read_choice
from mm_adapter.eval.record import Prediction
from mm_adapter.eval.source_rules import LMMS_EVAL

Sample = tuple[str, dict[str, Any]]
"""Place in the file, for messages, and the sample."""


def is_lmms_eval(fields: dict[str, Any]) -> bool:
    """Say whether an object is a logged sample."""
    return "doc_id" in fields and ("filtered_resps" in fields or "resps" in fields)


def logged_samples(value: Any) -> list[Any] | None:
    """Return the samples of an old file, which is one object, or None where the value is no such file."""
    logs = value.get("logs") if isinstance(value, dict) else None
    return logs if isinstance(logs, list) else None


def counts_pictures(path: Path, value: Any = None) -> bool | None:
    """Say whether ``doc_id`` counts questions with a picture alone, by the task's name; None where nothing tells.

    Args:
        path: ``DATE_samples_TASK.jsonl`` as lmms-eval names it.
        value: an old file's object, which names the task in ``model_configs``.
    """
    configs = value.get("model_configs") if isinstance(value, dict) else None
    task = configs.get("task") if isinstance(configs, dict) else None
    named = re.search(r"samples_(scienceqa\w*)", path.name) or re.search(r"(scienceqa_img)", path.name)
    task = task if isinstance(task, str) else named[1] if named else ""
    return task.startswith("scienceqa_img") if task.startswith("scienceqa") else None


def lmms_eval_predictions(
    samples: Sequence[Sample], questions: Sequence[Question], pictures_only: bool | None = None
) -> list[Prediction]:
    """Return the predictions of logged samples.

    Args:
        samples: in any order.
        questions: the split that was answered, in its order.
        pictures_only: whether ``doc_id`` counts questions with a picture alone; None to find out: whichever order the
            targets fit.

    Raises:
        UserError: a sample is not as lmms-eval writes it, or the targets do not fit the questions.
    """
    for where, sample in samples:
        if not is_lmms_eval(sample):
            raise UserError(f"{where}: samples of lmms-eval have 'doc_id' and 'filtered_resps'; one is missing here.")
        if not isinstance(sample["doc_id"], int) or isinstance(sample["doc_id"], bool) or sample["doc_id"] < 0:
            raise UserError(f"{where}: 'doc_id' is {shortened(sample['doc_id'])}; it must count from 0.")
    if samples and all(isinstance(sample.get("doc"), dict) for _, sample in samples):
        found = _by_content(samples, questions)
    else:
        found = _by_place(samples, questions, pictures_only)
    return [_prediction(where, sample, question) for (where, sample), question in zip(samples, found, strict=True)]


def _by_content(samples: Sequence[Sample], questions: Sequence[Question]) -> list[Question]:
    # Some questions have the same words and differ in the picture alone: they come in the split's order, as samples do.
    waiting: dict[tuple[Any, ...], list[Question]] = {}
    for question in questions:
        waiting.setdefault((question.question, question.options, question.context), []).append(question)
    found: dict[int, Question] = {}
    for place in sorted(range(len(samples)), key=lambda place: samples[place][1]["doc_id"]):
        where, sample = samples[place]
        doc = sample["doc"]
        options = doc.get("choices")
        words, hint = doc.get("question"), doc.get("hint") or ""
        written = [words, hint, *(options if isinstance(options, list) else ())]
        same = []
        if all(isinstance(text, str) for text in written):
            same = waiting.get((words, tuple(written[2:]), hint), [])
        fits = next((question for question in same if _target_fits(sample, question)), None)
        if fits is None:
            raise UserError(
                f"{where}: the question of this sample, {shortened(doc.get('question'))}, is not in the split, or its "
                "answer is another there. Check --data and --split."
            )
        same.remove(fits)
        found[place] = fits
    return [found[place] for place in range(len(samples))]


def _by_place(samples: Sequence[Sample], questions: Sequence[Question], pictures_only: bool | None) -> list[Question]:
    orders = {
        False: list(questions),
        True: [question for question in questions if question.image is not None],
    }
    tried = [pictures_only] if pictures_only is not None else [False, True]
    problems, fitting = [], []
    for pictures in tried:
        order = orders[pictures]
        misfit = next(
            (where for where, s in samples if s["doc_id"] >= len(order) or not _target_fits(s, order[s["doc_id"]])), ""
        )
        if misfit:
            problems.append(f"{'with pictures' if pictures else 'all'}: {len(order)} questions, not at {misfit}")
        else:
            fitting.append([order[sample["doc_id"]] for _, sample in samples])
    if len(fitting) > 1 and fitting[0] != fitting[1]:
        raise UserError(
            f"{samples[0][0]}: 'doc_id' may count all questions or those with a picture alone, for 'target' fits both. "
            "Name the file as lmms-eval does, ..._samples_scienceqa_img.jsonl or ..._samples_scienceqa.jsonl."
        )
    if fitting:
        return fitting[0]
    raise UserError(
        f"{samples[0][0] if samples else 'lmms-eval samples'}: 'doc_id' and 'target' do not fit the order of the split "
        f"({'; '.join(problems)}). Check --data and --split; the data must be the one that lmms-eval answered, with no "
        "question left out as bad."
    )


def _target_fits(sample: dict[str, Any], question: Question) -> bool:
    return sample.get("target") in (chr(ord("A") + question.answer), str(question.answer), question.answer)


def _prediction(where: str, sample: dict[str, Any], question: Question) -> Prediction:
    written = sample.get("filtered_resps", sample.get("resps"))
    while isinstance(written, list) and written:
        written = written[0]
    if not isinstance(written, str):
        raise UserError(f"{where}: 'filtered_resps' holds no text. Log what the model wrote, not likelihoods.")
    choice, rule = read_choice(written, question.options, question.question)
    return prediction(where, question.pid, choice, raw_text=written, rule=rule, tool=LMMS_EVAL)
