"""Questions of several adapters scored in one packed pass."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mm_adapter.adapter.mixed_rows import mix_prefixes
from mm_adapter.inference.answer import Answer, choose_options, chosen_option, continued_question
from mm_adapter.inference.prompt_look import PromptLook
from mm_adapter.model import MultimodalLlama
from mm_adapter.scoring.batching import collate
from mm_adapter.scoring.likelihoods import score_options
from mm_adapter.serving.jobs import Answered, ChooseJob, Job
from mm_adapter.serving.looking import look
from mm_adapter.serving.prefix_store import PrefixStore


def next_questions(queue: "deque[ChooseJob]", room: int) -> list[ChooseJob]:
    """Take from the queue what one pass of up to ``room`` tokens takes, the first at least."""
    taken: list[ChooseJob] = []
    while queue and (not taken or queue[0].question.length <= room):
        room -= queue[0].question.length
        taken.append(queue.popleft())
    return taken


def choose_together(
    models: Mapping[str, MultimodalLlama], store: PrefixStore, jobs: Sequence[ChooseJob]
) -> list[tuple[Job, Any]]:
    """Return for every job its ``Answered``, or the exception that it met; none meets that of another."""
    groups: dict[object, list[ChooseJob]] = {}
    for job in jobs:
        model = models[job.model]
        # An explanation that comes first is written by the model itself, before it is packed with others.
        key = (job.model, job.gate_scale) if model.template.explains_first else id(model.llama)
        groups.setdefault(key, []).append(job)
    results: list[tuple[Job, Any]] = []
    for group in groups.values():
        try:
            found = _choose(models, store, group)
            results += [
                (job, Answered(answer, job.timing(), _looked(models[job.model], store, job, answer)))
                for job, answer in zip(group, found, strict=True)
            ]
        except Exception as error:
            if len(group) == 1:
                results.append((group[0], error))
            else:
                results += [result for job in group for result in choose_together(models, store, [job])]
    return results


def _looked(model: MultimodalLlama, store: PrefixStore, job: ChooseJob, answer: Answer) -> PromptLook | None:
    if not job.attention:
        return None
    question = job.question
    if model.template.explains_first:
        question = continued_question(model, question, answer.explanation)
    return look(model, store, job, question.prefix)


@torch.no_grad()
def _choose(models: Mapping[str, MultimodalLlama], store: PrefixStore, jobs: Sequence[ChooseJob]) -> list[Answer]:
    model = models[jobs[0].model]
    questions = [job.question for job in jobs]
    if model.template.explains_first:
        features = [None if job.picture is None else store.features(job.model, job.picture) for job in jobs]
        scale = jobs[0].gate_scale
        return choose_options(model if scale == 1 else model.with_gates(scale), questions, features)
    llama = model.llama
    prefixes = mix_prefixes([store.prefixes(job) for job in jobs], llama.config.num_layers)
    batch = collate(questions, with_tail=False).to(llama.device)
    found = score_options(llama, batch, prefixes)
    counts = list(batch.option_counts)
    by_kind = {kind: found.ranking_scores(kind).split(counts) for kind in ("mean", "sum")}
    return [
        chosen_option(question, by_kind[models[job.model].ranking][place])
        for place, (job, question) in enumerate(zip(jobs, questions, strict=True))
    ]
