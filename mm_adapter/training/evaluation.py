"""Evaluate a model on a split: its answers to questions, or the likelihood of the responses in conversations."""

import json
import math
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mm_adapter.core.errors import UserError, suggestion
from mm_adapter.core.files import file_sha256, write_json, write_text
from mm_adapter.data.question import Dataset, Question, TableOptions
from mm_adapter.data.readers import read_dataset
from mm_adapter.distributed import SINGLE_PROCESS, DistributedContext
from mm_adapter.eval.leaderboard.submission import RECORD, answers_digest
from mm_adapter.eval.metrics import Metrics, evaluate_predictions
from mm_adapter.eval.official_report import write_report
from mm_adapter.eval.open_answers import score_open_answers
from mm_adapter.eval.predictions import UNREADABLE, Prediction, write_official, write_predictions
from mm_adapter.inference.answer_sets import (
    choose_by_generation,
    choose_by_likelihood,
    with_explanations,
    write_responses,
)
from mm_adapter.model import MultimodalLlama
from mm_adapter.scoring.encoded_sets import measure_responses
from mm_adapter.training.prepare import Prepared, prepare, without_images

IMAGES = ("real", "none", "shuffled")
DECODINGS = ("likelihood", "generate")


def evaluate(
    model: MultimodalLlama,
    data: str,
    split: str | None,
    out: Path,
    images: str = "real",
    decoding: str | None = None,
    name: str = "run",
    skip_bad: bool = False,
    features: Path | None = None,
    seed: int = 0,
    quiet: bool = False,
    log: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
    distributed: DistributedContext = SINGLE_PROCESS,
    explain: bool = False,
    max_new_tokens: int | None = None,
    table: TableOptions | None = None,
) -> Metrics:
    """Answer every question of a split; write predictions, the official result format, and the tables.

    Args:
        model: a base model, or one with an adapter.
        data: ScienceQA folder, or a table of questions with options.
        split: ``train``, ``val``, ``test``, or ``all`` of a table without splits; by default the one to evaluate.
        out: folder for predictions.jsonl, official.json, evaluation.json, metrics.json, metrics.csv and report.md.
        images: ``real``; ``none`` (every question without its picture); ``shuffled`` (with another question's).
        decoding: ``likelihood`` ranks the options; ``generate`` writes an answer and reads the choice from it. By
            default the latter with an adapter that explains before it answers, the former with all others.
        name: of the run, in the tables.
        skip_bad: leave out questions that cannot be used; they count as wrong.
        features: folder of the feature store.
        seed: of the shuffling.
        quiet: show no progress bars.
        log: receives lines for a person.
        distributed: the processes that share the questions; the first one writes.
        explain: have every choice explained; an adapter that explains first does so anyway.
        max_new_tokens: of an explanation; by default 128 after an answer, and as in training before one.
        table: how a table is taken.

    Raises:
        UserError: bad data or arguments; nothing is written then.
    """
    if decoding is None:
        decoding = "generate" if model.template.explains_first else "likelihood"
    for option, value, known in (("--images", images, IMAGES), ("--decoding", decoding, DECODINGS)):
        if value not in known:
            raise UserError(f"{option} {value!r} is not known{suggestion(value, known)}; {', '.join(known)} are.")
    dataset: Dataset = read_dataset(data, skip_bad=skip_bad, options=table)
    split = split or dataset.default_split
    questions = dataset.split(split)
    asked = _with_images(model, questions, images, seed)
    progress = not quiet and distributed.is_main
    prepared = prepare(model, asked, skip_bad, features, progress, distributed)
    if prepared.shortened and distributed.is_main:
        log(f"{prepared.shortened} questions have a shortened context")
    skipped = dataset.skipped(split)
    metrics = answer_questions(
        model, prepared, questions, skipped, out, decoding, name, distributed, explain, max_new_tokens
    )
    if distributed.is_main:
        write_json(out / RECORD, _record(model, data, split, questions, images, decoding, name))
    return metrics


def answer_questions(
    model: MultimodalLlama,
    prepared: Prepared,
    questions: Sequence[Question],
    skipped: Mapping[str, str],
    out: Path,
    decoding: str = "likelihood",
    name: str = "run",
    distributed: DistributedContext = SINGLE_PROCESS,
    explain: bool = False,
    max_new_tokens: int | None = None,
) -> Metrics:
    """Answer questions that are prepared already, and write what ``evaluate`` writes.

    Args:
        prepared: the questions as the model takes them.
        questions: what was to be asked, those that could not be prepared included.
        skipped: pid -> reason of questions that were left out before; they count as wrong.
    """
    choose = choose_by_likelihood if decoding == "likelihood" else choose_by_generation
    predictions = choose(model, prepared.examples, distributed, max_new_tokens)
    if explain:
        predictions = with_explanations(model, prepared.examples, predictions, distributed, max_new_tokens)
    skipped = {**skipped, **prepared.skipped}
    # In the files too, so that they are complete and score as here.
    predictions += [Prediction(pid, UNREADABLE) for pid in prepared.skipped]
    metrics = evaluate_predictions(predictions, questions, skipped)
    if distributed.is_main:
        write_predictions(out / "predictions.jsonl", predictions)
        write_official(out / "official.json", predictions)
        write_report(out, metrics, name)
    return metrics


def _record(
    model: MultimodalLlama, data: str, split: str, questions: Sequence[Question], images: str, decoding: str, name: str
) -> dict[str, Any]:
    """Return what a later reader must know of the run: a leaderboard holds it against its data."""
    return {
        "name": name,
        "data": data,
        "split": split,
        "questions": len(questions),
        "answers_sha256": answers_digest(questions),
        "images": images,
        "decoding": decoding,
        "tuned_parameters": _tuned_parameters(model),
    }


def _tuned_parameters(model: MultimodalLlama) -> int:
    return 0 if model.trained is None else sum(parameter.numel() for parameter in model.trained.parameters())


def _with_images(model: MultimodalLlama, questions: Sequence[Question], images: str, seed: int) -> list[Question]:
    if images == "none" or model.vision is None:
        return without_images(questions)
    return list(questions) if images == "real" else shuffle_images(questions, seed)


def shuffle_images(questions: Sequence[Question], seed: int) -> list[Question]:
    """Give every question with a picture the picture of another one, by one cycle through a seeded order."""
    holders = [index for index, question in enumerate(questions) if question.image is not None]
    random.Random(seed).shuffle(holders)
    result = list(questions)
    for here, there in zip(holders, holders[1:] + holders[:1], strict=True):
        result[here] = replace(questions[here], image=questions[there].image)
    return result


_LARGEST = 700.0  # beyond it, or for NaN, a perplexity is no number any more


def evaluate_responses(
    model: MultimodalLlama,
    data: str,
    split: str | None,
    out: Path,
    features: Path | None = None,
    table: TableOptions | None = None,
    quiet: bool = False,
    distributed: DistributedContext = SINGLE_PROCESS,
    skip_bad: bool = False,
    decoding: str | None = None,
    max_new_tokens: int | None = None,
) -> dict[str, Any]:
    """Measure the loss of every response of a split, and what the model writes; save metrics.json and responses.jsonl.

    Args:
        model: its template puts the requests.
        data: table of open questions or conversations.
        split: ``train``, ``val``, ``test``, or ``all`` of a table without splits; by default the one to evaluate.
        out: folder for these files and evaluation.json, which says what was evaluated.
        features: folder of the feature store.
        table: how the table is taken.
        quiet: show no progress bars.
        distributed: the processes that share the conversations; the first one writes.
        skip_bad: leave out what cannot be used; figures are of the rest.
        decoding: ``likelihood`` measures the loss alone; ``generate`` lets the model write the last response too, and
            scores it. By default the latter with open questions, the former with conversations.
        max_new_tokens: of a response that is written; by default 64.

    Returns:
        What ``metrics.json`` holds: loss per token, perplexity (None where it is beyond all numbers), counts, and
        scores of what was written.

    Raises:
        UserError: bad data; nothing is written then.
    """
    # Imported here: questions are evaluated without it.
    from mm_adapter.data.conversations import open_conversations
    from mm_adapter.training.prepare_conversations import count_cut, prepare_conversations

    progress = not quiet and distributed.is_main
    found = open_conversations(data, table, skip_bad)
    split = split or found.default_split
    conversations = found.split(split)
    examples, skipped = prepare_conversations(model, conversations, features, progress, distributed, skip_bad=skip_bad)
    skipped = {**found.bad, **skipped}
    measured = measure_responses(model, examples, distributed=distributed)
    if math.isnan(measured.loss):
        raise UserError(f"{data}: the loss of the responses is not a number; the adapter or the model is damaged.")
    metrics: dict[str, Any] = {
        "split": split,
        "loss_per_token": measured.loss,
        "perplexity": math.exp(measured.loss) if measured.loss < _LARGEST else None,
        "response_tokens": measured.tokens,
        "conversations": len(examples.conversations),
        "shortened": count_cut(examples),
        "skipped": skipped,
    }
    rows: list[dict[str, Any]] = [
        {"id": sample.id, "loss_per_token": loss, "response_tokens": sum(sample.targets)}
        for sample, loss in zip(examples.conversations, measured.by_conversation, strict=True)
    ]
    if (decoding or ("generate" if found.is_open else "likelihood")) == "generate":
        written = write_responses(model, examples, distributed, max_new_tokens)
        by_id = {conversation.id: conversation for conversation in conversations}
        asked = [by_id[sample.id] for sample in examples.conversations]
        scores = score_open_answers(written, [item.references or (item.turns[-1].text,) for item in asked])
        metrics["open_answers"] = scores.to_json()
        for row, text, item, own in zip(rows, written, asked, scores.each, strict=True):
            references = list(item.references) or [item.turns[-1].text]
            row |= {"request": item.turns[-2].text, "response": text, "references": references, **own}
    if distributed.is_main:
        write_text(out / "responses.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        write_json(out / "metrics.json", metrics)
        write_json(out / RECORD, {"data": data, "split": split, "tuned_parameters": _tuned_parameters(model)})
    return metrics


def held_out_share(run: Path, data: str) -> float | None:
    """Return the share of the file ``data`` that ``run`` held out, or None where it was not trained on that very file.

    Such a file has no rows that the run has not seen but those that it held out.
    """
    try:
        facts = json.loads((run / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    digest = facts.get("data_sha256") if isinstance(facts, dict) else None
    if digest is None or not Path(data).is_file() or file_sha256(Path(data)) != digest:
        return None
    share = facts.get("val_share")
    return share if isinstance(share, float) and 0 < share < 1 else TableOptions().val_share
