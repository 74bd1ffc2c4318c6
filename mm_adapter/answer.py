"""One question answered: by the likeliest of its choices, or freely."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from torch import Tensor

from data.batching import collate
from data.encoding import encode_question
from data.prompts import make_template
from data.question import Question
from mm_adapter.errors import UserError
from mm_adapter.explaining import Images, explain_answers, explain_first

if TYPE_CHECKING:
    from mm_adapter.model import MultimodalLlama

_FREE_LENGTH = 64  # tokens of an answer without choices


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
    model: "MultimodalLlama",
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


def _write(model: "MultimodalLlama", asked: Question, features: Tensor | None, max_new_tokens: int) -> Answer:
    free = make_template("QC-A", "text", frame=model.template.frame)
    encoded = encode_question(asked, free, model.tokenizer, model.max_length)
    return Answer(model.generate([encoded.prefix], features, max_new_tokens=max_new_tokens)[0].strip(), -1, ())
