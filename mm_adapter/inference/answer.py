"""One question answered: by the likeliest of its choices or freely, with an explanation where one is wanted.

An explanation comes after the answer (QCM-AE, QCM-ALE) or before it (QCM-EA, QCM-LEA), as in the dataset's paper,
arXiv 2209.09513.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image
from torch import Tensor

from mm_adapter.core.errors import UserError
from mm_adapter.data.encoding import EXPLANATION_LENGTH, EncodedQuestion, encode_question
from mm_adapter.data.question import Question
from mm_adapter.data.templates import ANSWER_LINE, BECAUSE, make_template
from mm_adapter.scoring.batching import collate
from mm_adapter.scoring.likelihoods import AdaptedModel

_FREE_LENGTH = 64  # tokens of an answer without choices
AFTER_LENGTH = 128
"""Tokens that an explanation after an answer may have, unless told otherwise."""


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
    return [(text, _continued(model, question, text)) for question, text in zip(questions, explanations, strict=True)]


def _continued(model: AdaptedModel, question: EncodedQuestion, explanation: str) -> EncodedQuestion:
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
    image: str | Path | Image.Image | None = None,
    choices: Sequence[str] | None = None,
    context: str = "",
    max_new_tokens: int | None = None,
    explain: bool = False,
) -> Answer:
    """Answer one question; see ``MultimodalLlama.answer``."""
    if explain and choices is None:
        raise UserError("an explanation is of a choice; give choices, or leave it out for a free answer.")
    if choices is not None and len(choices) < 2:
        raise UserError(f"{len(choices)} choices; give at least two, or none for a free answer.")
    if choices is not None and not all(choice.strip() for choice in choices):
        raise UserError("a choice is empty; every choice needs a text.")
    features = None if image is None else model.image_features(image)
    options = tuple(choices) if choices else ("",)
    asked = Question(pid="asked", question=question, options=options, answer=-1, context=context)
    if choices is None:
        return _write(model, asked, features, _FREE_LENGTH if max_new_tokens is None else max_new_tokens)
    encoded = encode_question(asked, model.template, model.tokenizer, model.max_length)
    explanation, images = "", Images(features)
    if model.template.explains_first:
        [(explanation, encoded)] = explain_first(model, [encoded], images, max_new_tokens)
    batch = collate([encoded], with_tail=False).to(model.llama.device)
    scores = model.score_choices(batch, features).ranking_scores(model.ranking)
    probabilities = scores.softmax(dim=-1).tolist()
    choice = int(scores.argmax())
    if explain and not model.template.explains_first:
        [explanation] = explain_answers(model, [encoded], [choice], images, max_new_tokens)
    return Answer(options[choice], choice, tuple(probabilities), explanation)


def _write(model: AdaptedModel, asked: Question, features: Tensor | None, max_new_tokens: int) -> Answer:
    free = make_template("QC-A", "text", frame=model.template.frame)
    encoded = encode_question(asked, free, model.tokenizer, model.max_length)
    return Answer(model.generate([encoded.prefix], features, max_new_tokens=max_new_tokens)[0].strip(), -1, ())
