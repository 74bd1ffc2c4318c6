"""Questions and conversations as token ids: what is asked, what is scored or learned, what is cut to fit."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from mm_adapter.core.errors import UserError
from mm_adapter.data.conversation import Conversation, ConversationTemplate, EncodedConversation, Request, Turn
from mm_adapter.data.question import MOST_CHARACTERS, Question
from mm_adapter.data.templates import QuestionTemplate

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

    @property
    def controls(self) -> tuple[str, ...]:
        """Spellings that ``encode`` makes one control token of, such as ``<|im_end|>``."""
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
    options = tuple((*encode_said(tokenizer, answer), *option_end) for answer in prompt.answers)
    told = prompt.lead or prompt.explanation
    explanation = encode_said(tokenizer, told)[:explanation_length] if told else []
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
        encoded.append(encode_said(tokenizer, part, starts) if part else [])
        starts = starts and not part
    return encoded


def encode_said(tokenizer: Encoder, text: str, starts: bool = False) -> list[int]:
    """Encode what somebody says: a control token that is spelled in it stays text.

    Such a spelling is cut in two behind its first letter, so that no tokenizer finds it; all else is encoded as ever.

    Args:
        starts: it starts a sequence, and does not go on after other text.

    Raises:
        UserError: it is longer than ``MOST_CHARACTERS``.
    """
    _check_length(text)
    encode = tokenizer.encode if starts else tokenizer.encode_continuation
    spelled = _spelled(tokenizer.controls)
    cuts = [found.start() + 1 for found in spelled.finditer(text)] if spelled is not None else []
    if not cuts:
        return encode(text)
    parts = [text[start:stop] for start, stop in pairwise([0, *cuts, len(text)])]
    return [*encode(parts[0]), *(token for part in parts[1:] for token in tokenizer.encode_continuation(part))]


def _check_length(text: str) -> None:
    if len(text) > MOST_CHARACTERS:
        raise UserError(f"a text has {len(text):,} characters; at most {MOST_CHARACTERS:,} are taken. Shorten it.")


@lru_cache(maxsize=16)
def _spelled(controls: tuple[str, ...]) -> re.Pattern[str] | None:
    """Return what finds where a control token is spelled; kept, since some tokenizers have hundreds of them."""
    spellings = "|".join(re.escape(spelling) for spelling in controls if len(spelling) > 1)
    return re.compile(f"(?={spellings})") if spellings else None


def _encode_around(tokenizer: Encoder, request: Request, starts: bool) -> list[int]:
    """Encode a user's turn: whole, as training has it, unless a control token is spelled in what is said."""
    _check_length(request.body)
    _check_length(request.system)
    spelled = _spelled(tokenizer.controls)
    if spelled is None or not (spelled.search(request.body) or spelled.search(request.system)):
        return (tokenizer.encode if starts else tokenizer.encode_continuation)(request.text)
    before = _encode_before(tokenizer, request, starts)
    said = encode_said(tokenizer, request.body, starts and not before)
    return [*before, *said, *tokenizer.encode_continuation(request.after)]


def _encode_before(tokenizer: Encoder, request: Request, starts: bool) -> list[int]:
    """Encode what stands before a request, what the system says among it."""
    encode = tokenizer.encode if starts else tokenizer.encode_continuation
    spelled = _spelled(tokenizer.controls)
    if spelled is None or spelled.search(request.system) is None:
        before = request.lead + request.system + request.before
        return encode(before) if before else []
    lead = encode(request.lead) if request.lead else []
    said = encode_said(tokenizer, request.system, starts and not lead)
    return [*lead, *said, *(tokenizer.encode_continuation(request.before) if request.before else [])]


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


def encode_conversation(
    conversation: Conversation, template: ConversationTemplate, tokenizer: Encoder, max_length: int
) -> EncodedConversation:
    """Encode a conversation in at most ``max_length`` tokens.

    Exchanges that do not fit after the first are left out whole, the last first. Where the first alone is too long, its
    request yields, from its end; its response is cut only where it does not fit beside the bare template. It then has
    no end token, and leaves at least half of the room to the request, which without would say nothing.

    Raises:
        UserError: ``max_length`` has no room for the template, what the system says and one token; or the template has
            no place for what the system says.
    """
    exchanges = conversation.exchanges
    if exchanges[0][0].system and template.system_refusal:
        raise UserError(f"conversation {conversation.id} begins with a turn of the system: {template.system_refusal}")
    asked, answered, left_out = _fit_first(conversation.id, exchanges[0], template, tokenizer, max_length)
    tokens, targets = asked + answered, [False] * len(asked) + [True] * len(answered)
    taken = 1
    for request, response in exchanges[1:]:
        asked = encode_later_request(request, template, tokenizer)
        answered = _encode_response(response, tokenizer)
        if len(tokens) + len(asked) + len(answered) > max_length:
            break
        tokens += asked + answered
        targets += [False] * len(asked) + [True] * len(answered)
        taken += 1
    dropped = len(exchanges) - taken
    return EncodedConversation(
        conversation.id, tuple(tokens), tuple(targets), conversation.image, *left_out, dropped_exchanges=dropped
    )


def encode_request(turn: Turn, template: ConversationTemplate, tokenizer: Encoder) -> list[int]:
    """Return the ids of a first request, as they stand before its response in training: what generation begins with."""
    return [*tokenizer.begin, *_encode_around(tokenizer, template.render(turn), True)]


def encode_later_request(turn: Turn, template: ConversationTemplate, tokenizer: Encoder) -> list[int]:
    """Return the ids of a request as they follow the end token of the response before it."""
    return _encode_around(tokenizer, template.render(turn, first=False), False)


def _fit_first(
    name: str, exchange: tuple[Turn, Turn], template: ConversationTemplate, tokenizer: Encoder, max_length: int
) -> tuple[list[int], list[int], tuple[int, int]]:
    """Return ids of a request and its response, and how many of each had to be left out."""
    whole, response = encode_request(exchange[0], template, tokenizer), _encode_response(exchange[1], tokenizer)
    if len(whole) + len(response) <= max_length:
        return whole, response, (0, 0)
    request = template.render(exchange[0])
    before = [*tokenizer.begin, *_encode_before(tokenizer, request, True)]
    body, after = encode_said(tokenizer, request.body), tokenizer.encode_continuation(request.after)
    room = max_length - len(before) - len(after)
    if room < 1:
        raise UserError(
            f"conversation {name}: the prompt's template{' and what the system says' if request.system else ' alone'} "
            f"has {len(before) + len(after)} tokens, max_length is {max_length}. Raise max_length."
        )
    kept = min(len(body), room - len(response) if len(response) <= room else room // 2)
    answered = response[: room - kept]
    return before + body[:kept] + after, answered, (len(body) - kept, len(response) - len(answered))


def _encode_response(turn: Turn, tokenizer: Encoder) -> list[int]:
    return [*encode_said(tokenizer, turn.text), tokenizer.end]
