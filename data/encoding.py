"""From prompts to token ids, shortened where they must be, never in options or answer."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mm_adapter.core.errors import UserError
from mm_adapter.data.prompts import QuestionTemplate
from mm_adapter.data.question import Question

EXPLANATION_LENGTH = 256
"""Tokens that an explanation may have while training."""


class Encoder(Protocol):
    """The part of a tokenizer that encoding needs."""

    @property
    def begin(self) -> tuple[int, ...]:
        """Ids that a sequence starts with."""
        ...

    @property
    def end(self) -> int:
        """Id that ends an answer."""
        ...

    def encode(self, text: str) -> list[int]:
        """Return the ids of ``text`` at the start of a sequence."""
        ...

    def encode_continuation(self, text: str) -> list[int]:
        """Return the ids of ``text`` as it goes on after other text."""
        ...


@dataclass(frozen=True)
class EncodedQuestion:
    """A question as token ids.

    Attributes:
        question: where it came from.
        prefix: ids that all options share.
        options: ids of each option's answer text, and of the end of sequence where the template scores it.
        tail: ids that follow the right answer while training: an explanation, if any, and the end of sequence, unless
            the options have it already.
        dropped: context tokens that were cut to fit.
        lead: ids of an explanation before the answer, while training; the options follow it then.
    """

    question: Question
    prefix: tuple[int, ...]
    options: tuple[tuple[int, ...], ...]
    tail: tuple[int, ...]
    dropped: int = 0
    lead: tuple[int, ...] = ()

    @property
    def explained(self) -> bool:
        """Whether there is an explanation to learn, before the answer or after it."""
        return bool(self.lead) or len(self.tail) > 1

    @property
    def pid(self) -> str:
        """The question's id."""
        return self.question.pid

    @property
    def image(self) -> Path | None:
        """File of the question's picture."""
        return self.question.image

    @property
    def length(self) -> int:
        """Tokens of prefix, lead, options and tail together, as one packed sequence."""
        return len(self.prefix) + len(self.lead) + sum(map(len, self.options)) + len(self.tail)


def encode_question(
    question: Question,
    template: QuestionTemplate,
    tokenizer: Encoder,
    max_length: int,
    explanation_length: int = EXPLANATION_LENGTH,
) -> EncodedQuestion:
    """Encode one question so that prefix plus longest continuation has at most ``max_length`` tokens.

    The context loses its beginning first: its end stands next to the question's options in every template.

    Args:
        explanation_length: tokens that an explanation may have, wherever it stands; the rest is cut.

    Raises:
        UserError: the question does not fit even without any context.
    """
    prompt = template.render(question)
    frame, parts = template.frame, (prompt.before, prompt.context, prompt.after)
    head, context, after = encode_parts(tokenizer, parts, starts=frame is None)
    head = [*(tokenizer.begin if frame is None else frame.opening), *head]
    after = [*after, *(() if frame is None else frame.closing)]
    end = (tokenizer.end,)
    option_end, tail_end = (end, ()) if template.score_end else ((), end)
    options = tuple((*tokenizer.encode_continuation(answer), *option_end) for answer in prompt.answers)
    told = prompt.lead or prompt.explanation
    explanation = tokenizer.encode_continuation(told)[:explanation_length] if told else []
    # The explanation yields to the question: what is asked must not depend on what only training may see.
    needed = len(head) + len(after) + max(map(len, options)) + len(tail_end)
    room = max_length - needed
    if room < 0:
        raise UserError(
            f"question {question.pid}: needs {needed} tokens without any context, the limit is {max_length}. "
            "Raise max_length, or leave the question out with --skip-bad."
        )
    dropped = max(0, len(context) - room)
    kept = tuple(explanation[: room - len(context) + dropped])
    lead, following = (kept, ()) if prompt.lead else ((), kept)
    prefix = tuple(head + context[dropped:] + after)
    return EncodedQuestion(question, prefix, options, (*following, *tail_end), dropped, lead)


def encode_parts(tokenizer: Encoder, parts: Sequence[str], starts: bool) -> list[list[int]]:
    """Encode texts that follow one another; the first that is not empty starts the sequence where ``starts``."""
    encoded: list[list[int]] = []
    for part in parts:
        encode = tokenizer.encode if starts else tokenizer.encode_continuation
        encoded.append(encode(part) if part else [])
        starts = starts and not part
    return encoded


def encode_questions(
    questions: Iterable[Question],
    template: QuestionTemplate,
    tokenizer: Encoder,
    max_length: int,
    skip_bad: bool = False,
) -> tuple[list[EncodedQuestion], dict[str, str]]:
    """Encode many questions; with ``skip_bad``, return those that do not fit as pid -> reason instead of raising."""
    encoded: list[EncodedQuestion] = []
    bad: dict[str, str] = {}
    for question in questions:
        try:
            encoded.append(encode_question(question, template, tokenizer, max_length))
        except UserError as error:
            if not skip_bad:
                raise
            bad[question.pid] = str(error)
    return encoded, bad


def count_shortened(encoded: Sequence[EncodedQuestion]) -> int:
    """Return how many questions lost some context."""
    return sum(question.dropped > 0 for question in encoded)
