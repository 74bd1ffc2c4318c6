"""Choosing an option for every example: by likelihood or in writing, with an explanation where one is wanted."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from mm_adapter.data.encoding import EXPLANATION_LENGTH, EncodedQuestion
from mm_adapter.distributed import SINGLE_PROCESS, DistributedContext
from mm_adapter.eval.parsing import read_choice
from mm_adapter.eval.predictions import UNREADABLE, Prediction
from mm_adapter.inference.answer import Images, explain_answers, explain_first, leading_explanation
from mm_adapter.scoring.encoded_sets import ConversationSet, QuestionSet, score_questions, stack_features
from mm_adapter.scoring.likelihoods import AdaptedModel

Result = TypeVar("Result")

_BATCH = 16  # questions that are written to at a time


def choose_by_likelihood(
    model: AdaptedModel,
    examples: QuestionSet,
    distributed: DistributedContext = SINGLE_PROCESS,
    max_new_tokens: int | None = None,
) -> list[Prediction]:
    """Return a prediction for every example, in order: the likeliest option, with the scores of all.

    A model that explains first is let do so, and its options are scored after its explanation.

    Args:
        max_new_tokens: of such an explanation.
    """
    explanations = [""] * len(examples.questions)
    if model.template.explains_first:

        def write(questions: Sequence[EncodedQuestion], images: Images) -> list[tuple[str, EncodedQuestion]]:
            return explain_first(model, questions, images, max_new_tokens)

        told = _written(model, examples, range(len(examples.questions)), write, distributed)
        explanations = [told[index][0] for index in range(len(told))]
        examples = replace(examples, questions=[told[index][1] for index in range(len(told))])
    predictions = []
    scores = score_questions(model, examples, distributed=distributed)
    for scored, encoded, explanation in zip(scores, examples.questions, explanations, strict=True):
        probabilities = torch.tensor(scored.scores, dtype=torch.float64).softmax(dim=0).tolist()
        text = encoded.question.options[scored.choice]
        predictions.append(
            Prediction(scored.pid, scored.choice, scored.scores, tuple(probabilities), text, explanation=explanation)
        )
    return predictions


def choose_by_generation(
    model: AdaptedModel,
    examples: QuestionSet,
    distributed: DistributedContext = SINGLE_PROCESS,
    max_new_tokens: int | None = None,
) -> list[Prediction]:
    """Return a prediction for every example, in order: the choice that is read out of what the model writes.

    Args:
        max_new_tokens: of the explanation of a model that explains first; its answer comes on top.
    """
    first = model.template.explains_first

    def write(questions: Sequence[EncodedQuestion], images: Images) -> list[str]:
        longest = max(len(option) for question in questions for option in question.options)
        limit = longest + 8 + ((max_new_tokens or EXPLANATION_LENGTH) if first else 0)
        prefixes = [question.prefix for question in questions]
        return model.generate(prefixes, images.features, images.present, max_new_tokens=limit)

    texts = _written(model, examples, range(len(examples.questions)), write, distributed)
    predictions = []
    for index, encoded in enumerate(examples.questions):
        choice, rule = read_choice(texts[index], encoded.question.options, encoded.question.question)
        explanation = leading_explanation(texts[index]) if first else ""
        predictions.append(
            Prediction(encoded.question.pid, choice, raw_text=texts[index], rule=rule, explanation=explanation)
        )
    return predictions


def with_explanations(
    model: AdaptedModel,
    examples: QuestionSet,
    predictions: Sequence[Prediction],
    distributed: DistributedContext = SINGLE_PROCESS,
    max_new_tokens: int | None = None,
) -> list[Prediction]:
    """Return the predictions, each with an explanation of its choice; those that could not be read get none.

    Where the model explained before it answered, they have theirs already.

    Args:
        predictions: of ``examples``, in order.
    """
    if model.template.explains_first:
        return list(predictions)
    choices = {encoded.pid: found.choice for encoded, found in zip(examples.questions, predictions, strict=True)}

    def write(questions: Sequence[EncodedQuestion], images: Images) -> list[str]:
        return explain_answers(model, questions, [choices[q.pid] for q in questions], images, max_new_tokens)

    chosen = [index for index, found in enumerate(predictions) if found.choice != UNREADABLE]
    texts = _written(model, examples, chosen, write, distributed)
    return [replace(found, explanation=texts.get(index, "")) for index, found in enumerate(predictions)]


def write_responses(
    model: AdaptedModel,
    examples: ConversationSet,
    distributed: DistributedContext = SINGLE_PROCESS,
    max_new_tokens: int | None = None,
) -> list[str]:
    """Return what the model writes in place of the last response of every conversation, in order.

    Args:
        max_new_tokens: of a response; by default 64.
    """
    samples = examples.conversations
    prompts = [sample.tokens[: last_response(sample.targets)] for sample in samples]

    def write(indices: Sequence[int], images: Images) -> list[str]:
        asked = [prompts[index] for index in indices]
        return model.generate(asked, images.features, images.present, max_new_tokens=max_new_tokens or 64)

    lengths, pictures = [len(prompt) for prompt in prompts], [sample.image for sample in samples]
    texts = _in_batches(model, lengths, pictures, examples.features, range(len(samples)), write, distributed)
    return [texts[index] for index in range(len(samples))]


def last_response(targets: Sequence[bool]) -> int:
    """Return where the last response begins: after the last token that is not one of it."""
    return max((index + 1 for index, learned in enumerate(targets) if not learned), default=0)


def _written(
    model: AdaptedModel,
    examples: QuestionSet,
    wanted: Sequence[int],
    write: Callable[[Sequence[EncodedQuestion], Images], Sequence[Result]],
    distributed: DistributedContext,
) -> dict[int, Result]:
    """Return index -> what ``write`` makes of each wanted question."""
    questions = examples.questions
    lengths, pictures = [len(question.prefix) for question in questions], [question.image for question in questions]

    def write_members(indices: Sequence[int], images: Images) -> Sequence[Result]:
        return write([questions[index] for index in indices], images)

    return _in_batches(model, lengths, pictures, examples.features, wanted, write_members, distributed)


def _in_batches(
    model: AdaptedModel,
    lengths: Sequence[int],
    pictures: Sequence[Path | None],
    found: Mapping[Path, Tensor],
    wanted: Sequence[int],
    write: Callable[[Sequence[int], Images], Sequence[Result]],
    distributed: DistributedContext,
) -> dict[int, Result]:
    """Return index -> what ``write`` makes of each wanted example, in batches of like length that the ranks share."""
    own: dict[int, Result] = {}
    order = sorted(wanted, key=lambda index: lengths[index])
    for indices in distributed.shard([order[start : start + _BATCH] for start in range(0, len(order), _BATCH)]):
        features, present = stack_features([pictures[index] for index in indices], found)
        device = model.llama.device
        images = Images(
            None if features is None else features.to(device), None if present is None else present.to(device)
        )
        own.update(zip(indices, write(indices, images), strict=True))
    return {index: text for part in distributed.gather(own) for index, text in part.items()}
