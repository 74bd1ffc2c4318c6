"""Explanations that a model writes: after an answer that is chosen already, or before it.

Answer first (QCM-AE, QCM-ALE) and explanation first (QCM-EA, QCM-LEA), as in the dataset's paper, arXiv 2209.09513.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

from data.encoding import EXPLANATION_LENGTH, EncodedQuestion
from data.prompts import ANSWER_LINE, BECAUSE

if TYPE_CHECKING:
    from mm_adapter.model import MultimodalLlama

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
    model: "MultimodalLlama",
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
    model: "MultimodalLlama",
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
    texts = model.generate(prefixes, images.features, images.present, max_new_tokens=limit, stops=(ANSWER_LINE,))
    explanations = [text.strip() for text in texts]
    return [(text, _continued(model, question, text)) for question, text in zip(questions, explanations, strict=True)]


def _continued(model: "MultimodalLlama", question: EncodedQuestion, explanation: str) -> EncodedQuestion:
    # Encoded as in training, not as it came: a decoder may swallow the space in front.
    told = model.tokenizer.encode_continuation(model.template.space + explanation) if explanation else []
    longest = max(map(len, question.options))
    # What is cut is the explanation, never the question or an option.
    room = model.llama.config.context_length - len(question.prefix) - longest
    return replace(question, prefix=(*question.prefix, *told[: max(0, room)]))


def leading_explanation(text: str) -> str:
    """Return what an answer that explains first says before its answer; all of it where no answer comes."""
    return text.partition(ANSWER_LINE)[0].strip()
