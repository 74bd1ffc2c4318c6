"""Questions answered: by the likeliest of its choices or freely, with an explanation where one is wanted.

An explanation comes after the answer (QCM-AE, QCM-ALE) or before it (QCM-EA, QCM-LEA), as in arXiv 2209.09513.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mm_adapter.core.errors import UserError
from mm_adapter.core.images import ImageSource
from mm_adapter.data.encoding import EXPLANATION_LENGTH, EncodedQuestion, encode_question
from mm_adapter.data.question import Question
from mm_adapter.data.templates import ANSWER_LINE, BECAUSE, make_template
from mm_adapter.inference.generation import finite
from mm_adapter.scoring.batching import collate, token_batches
from mm_adapter.scoring.likelihoods import AdaptedModel

_BATCH_TOKENS = 4096
_BATCH = 16  # free answers that are written at a time
FREE_LENGTH, AFTER_LENGTH = 64, 128
"""Tokens of an answer without choices and of an explanation after an answer, unless told otherwise."""


@dataclass(frozen=True)
class Images:
    """Picture features of a batch of B questions.

    Attributes:
        features: ``(B, F)``; None where no question has a picture.
        present: ``(B,)`` bool; None: all have one.
    """

    features: Tensor | None = None
    present: Tensor | None = None


def explain_answers(
    model: AdaptedModel,
    questions: Sequence[EncodedQuestion],
    choices: Sequence[int],
    images: Images,
    max_new_tokens: int | None = None,
) -> list[str]:
    """Return an explanation of each chosen answer: what the model writes after ``BECAUSE:``.

    Empty where the answer leaves no room in the model's context.

    Args:
        questions: B, encoded without regard to an explanation.
        choices: index of the chosen option, one per question.
        max_new_tokens: of an explanation; ``AFTER_LENGTH`` by default.
    """
    cue, end = model.tokenizer.encode_continuation(BECAUSE), model.tokenizer.end
    prompts = []
    for question, choice in zip(questions, choices, strict=True):
        # An option may hold the end of sequence, behind which nothing is written.
        answer = [token for token in question.options[choice] if token != end]
        prompts.append([*question.prefix, *answer, *cue])
    fitting = [place for place, prompt in enumerate(prompts) if len(prompt) < model.llama.config.context_length]
    if not fitting:
        return [""] * len(prompts)
    written = model.generate(
        [prompts[place] for place in fitting],
        None if images.features is None else images.features[fitting],
        None if images.present is None else images.present[fitting],
        max_new_tokens=max_new_tokens or AFTER_LENGTH,
    )
    texts = [""] * len(prompts)
    for place, text in zip(fitting, written, strict=True):
        texts[place] = text.strip()
    return texts


def explain_first(
    model: AdaptedModel,
    questions: Sequence[EncodedQuestion],
    images: Images,
    max_new_tokens: int | None = None,
) -> list[tuple[str, EncodedQuestion]]:
    """Return the explanation that the model writes before an answer, and the question with it as part of its prefix.

    The options then follow the model's own explanation, and their likelihoods are given that.

    Args:
        questions: B, of a template that explains first.
        max_new_tokens: of an explanation; by default what it could have in training.
    """
    prefixes = [question.prefix for question in questions]
    limit = max_new_tokens or EXPLANATION_LENGTH
    texts = model.generate(prefixes, images.features, images.present, max_new_tokens=limit, stop_strings=(ANSWER_LINE,))
    explanations = [text.strip() for text in texts]
    told = zip(questions, explanations, strict=True)
    return [(text, continued_question(model, question, text)) for question, text in told]


def continued_question(model: AdaptedModel, question: EncodedQuestion, explanation: str) -> EncodedQuestion:
    """Return a question with the explanation that stands before its answer as part of its prefix."""
    # Encoded as in training, not as it came: a decoder may swallow the space in front.
    told = model.tokenizer.encode_continuation(model.template.space + explanation) if explanation else []
    longest = max(map(len, question.options))
    # What is cut is the explanation, never the question or an option.
    room = model.llama.config.context_length - len(question.prefix) - longest
    return replace(question, prefix=(*question.prefix, *told[: max(0, room)]))


def leading_explanation(text: str) -> str:
    """Return what an answer that explains first says before its answer; all of it where no answer comes."""
    return text.partition(ANSWER_LINE)[0].strip()


@dataclass(frozen=True)
class Answer:
    """An answer to one question.

    Attributes:
        text: the chosen option, or what the model wrote where no choices were given.
        choice: index of the chosen option, -1 without choices.
        probabilities: softmax over the options' scores; empty without choices.
        explanation: why, where the model was to say so or was taught to explain before it answers.
    """

    text: str
    choice: int
    probabilities: tuple[float, ...]
    explanation: str = ""


def answer_question(
    model: AdaptedModel,
    question: str,
    image: ImageSource | None = None,
    choices: Sequence[str] | None = None,
    context: str = "",
    max_new_tokens: int | None = None,
    explain: bool = False,
) -> Answer:
    """Answer one question; see ``MultimodalLlama.answer``."""
    if not isinstance(question, str):
        raise UserError(f"a question is given as {type(question).__name__}; give a text, or many with answer_batch.")
    [answer] = answer_questions(model, [question], [image], [choices], [context], max_new_tokens, explain)
    return answer


def answer_questions(
    model: AdaptedModel,
    questions: Sequence[str],
    images: Sequence[ImageSource | None] | None = None,
    choices: Sequence[Sequence[str] | None] | None = None,
    contexts: Sequence[str] | None = None,
    max_new_tokens: int | None = None,
    explain: bool = False,
) -> list[Answer]:
    """Answer many questions; see ``MultimodalLlama.answer_batch``."""
    count = _counted(questions, images=images, choices=choices, contexts=contexts)
    offered = [None] * count if choices is None else [check_choices(options, explain) for options in choices]
    asked = [
        Question(str(index), question, options or ("",), answer=-1, context=context)
        for index, (question, options, context) in enumerate(
            zip(questions, offered, [""] * count if contexts is None else contexts, strict=True)
        )
    ]
    seen = _seen(model, [None] * count if images is None else images)
    answers: list[Answer | None] = [None] * count
    chosen = [index for index, options in enumerate(offered) if options is not None]
    encoded = [encode_question(asked[index], model.template, model.tokenizer, model.max_length) for index in chosen]
    found = choose_options(model, encoded, [seen[index] for index in chosen], max_new_tokens, explain)
    for index, answer in zip(chosen, found, strict=True):
        answers[index] = answer
    free = [index for index, options in enumerate(offered) if options is None]
    for start in range(0, len(free), _BATCH):
        members = free[start : start + _BATCH]
        shown = stack_images([seen[index] for index in members])
        texts = _write(model, [asked[index] for index in members], shown, max_new_tokens)
        for index, answer in zip(members, texts, strict=True):
            answers[index] = answer
    return [answer for answer in answers if answer is not None]


def _counted(questions: Sequence[str], **others: Sequence[object] | None) -> int:
    """Return how many questions there are.

    Raises:
        UserError: they are no list of texts, or there are not as many of something else.
    """
    if isinstance(questions, str) or not all(isinstance(question, str) for question in questions):
        raise UserError("questions must be a list of texts; answer takes a single one.")
    for name, given in others.items():
        if given is not None and (isinstance(given, str | bytes) or len(given) != len(questions)):
            raise UserError(f"{name} must be a list with one for each of the {len(questions)} questions.")
    return len(questions)


def check_choices(choices: Sequence[str] | None, explain: bool) -> tuple[str, ...] | None:
    """Return the choices of one question.

    Raises:
        UserError: they are not at least two texts, or there are none to explain.
    """
    if choices is None:
        if explain:
            raise UserError("an explanation is of a choice; give choices, or leave it out for a free answer.")
        return None
    if isinstance(choices, str | bytes) or not all(isinstance(choice, str) for choice in choices):
        raise UserError(f'choices must be a list of texts, such as ["red", "blue"]; {choices!r:.60} is none.')
    if len(choices) < 2:
        raise UserError(f"{len(choices)} choices; give at least two, or none for a free answer.")
    if not all(choice.strip() for choice in choices):
        raise UserError("a choice is empty; every choice needs a text.")
    return tuple(choices)


def stack_images(features: Sequence[Tensor | None]) -> Images:
    """Return the features ``(1, F)`` or ``(1, T, E)`` of each question as those of a batch; None: no picture."""
    known = [feature for feature in features if feature is not None]
    if not known:
        return Images()
    blank = torch.zeros_like(known[0])
    stacked = torch.cat([blank if feature is None else feature for feature in features])  # (B, F)
    present = torch.tensor([feature is not None for feature in features], device=stacked.device)
    return Images(stacked, None if len(known) == len(features) else present)


def _seen(model: AdaptedModel, images: Sequence[ImageSource | None]) -> list[Tensor | None]:
    """Return the features of every picture; one that is given for several questions is looked at once."""
    known: dict[str | int, Tensor] = {}
    features: list[Tensor | None] = []
    for image in images:
        key = str(image) if isinstance(image, str | os.PathLike) else id(image)
        if image is not None and key not in known:
            known[key] = model.image_features(image)
        features.append(None if image is None else known[key])
    return features


def choose_options(
    model: AdaptedModel,
    encoded: Sequence[EncodedQuestion],
    features: Sequence[Tensor | None],
    max_new_tokens: int | None = None,
    explain: bool = False,
) -> list[Answer]:
    """Answer encoded questions by the likeliest of their options, in packed batches.

    Args:
        features: ``(1, F)`` or ``(1, T, E)`` of each question's picture; None without one.
        max_new_tokens, explain: see ``MultimodalLlama.answer``.
    """
    # An explanation comes on top; how long it is shows only when it is written.
    more = EXPLANATION_LENGTH if model.template.explains_first else 0
    answers: dict[int, Answer] = {}
    for batch in token_batches([question.length + more for question in encoded], _BATCH_TOKENS):
        images = stack_images([features[place] for place in batch])
        found = _choose(model, [encoded[place] for place in batch], images, max_new_tokens, explain)
        answers.update(zip(batch, found, strict=True))
    return [answers[place] for place in range(len(encoded))]


def _choose(
    model: AdaptedModel, encoded: Sequence[EncodedQuestion], images: Images, max_new_tokens: int | None, explain: bool
) -> list[Answer]:
    explanations = [""] * len(encoded)
    if model.template.explains_first:
        told = explain_first(model, encoded, images, max_new_tokens)
        explanations, encoded = [text for text, _ in told], [question for _, question in told]
    batch = collate(encoded, with_tail=False).to(model.llama.device)
    scores = model.score_choices(batch, images.features, images.present).ranking_scores(model.ranking)  # (O,)
    own = scores.split(list(batch.option_counts))
    answers = [chosen_option(question, part) for question, part in zip(encoded, own, strict=True)]
    if explain and not model.template.explains_first:
        choices = [answer.choice for answer in answers]
        explanations = explain_answers(model, encoded, choices, images, max_new_tokens)
    return [replace(answer, explanation=text) for answer, text in zip(answers, explanations, strict=True)]


def chosen_option(question: EncodedQuestion, scores: Tensor) -> Answer:
    """Return the option with the highest of ``scores`` ``(options,)``, and what their softmax gives each."""
    probabilities = finite(scores).softmax(dim=-1)
    choice = int(probabilities.argmax())
    return Answer(question.question.options[choice], choice, tuple(probabilities.tolist()))


def free_prompt(model: AdaptedModel, question: Question) -> tuple[int, ...]:
    """Return the ids that a question without choices is put as: what its answer is written on.

    Raises:
        UserError: the question does not fit.
    """
    free = make_template("QC-A", "text", frame=model.template.frame)
    return encode_question(question, free, model.tokenizer, model.max_length).prefix


def _write(model: AdaptedModel, asked: Sequence[Question], images: Images, max_new_tokens: int | None) -> list[Answer]:
    prefixes = [free_prompt(model, question) for question in asked]
    limit = FREE_LENGTH if max_new_tokens is None else max_new_tokens
    written = model.generate(prefixes, images.features, images.present, max_new_tokens=limit)
    return [Answer(text.strip(), -1, ()) for text in written]
