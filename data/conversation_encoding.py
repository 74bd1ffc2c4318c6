"""From conversations to token ids and which of them are learned: the responses, never the requests."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mm_adapter.core.errors import UserError
from mm_adapter.data.alpaca import Request
from mm_adapter.data.conversation import Conversation, Turn
from mm_adapter.data.encoding import Encoder


class ConversationTemplate(Protocol):
    """Wording around a user's turns."""

    def render(self, turn: Turn, first: bool = True) -> Request:
        """Return a user's turn as text."""
        ...


@dataclass(frozen=True)
class EncodedConversation:
    """A conversation as token ids.

    Attributes:
        id: of the conversation.
        tokens: T ids.
        targets: T flags, true for ids of a response and the end token after it: those count in the loss.
        image: file of the picture, or None.
        cut_request, cut_response: tokens of the first exchange that were left out to fit.
        dropped_exchanges: later ones that were left out whole.
    """

    id: str
    tokens: tuple[int, ...]
    targets: tuple[bool, ...]
    image: Path | None = None
    cut_request: int = 0
    cut_response: int = 0
    dropped_exchanges: int = 0


def encode_conversation(
    conversation: Conversation, template: ConversationTemplate, tokenizer: Encoder, max_length: int
) -> EncodedConversation:
    """Encode a conversation in at most ``max_length`` tokens.

    Exchanges that do not fit after the first are left out whole, the last first. Where the first alone is too long, its
    request yields, from its end; its response is cut only where it does not fit beside the bare template. It then has
    no end token, and leaves at least half of the room to the request, which without would say nothing.

    Raises:
        UserError: ``max_length`` has no room for the template and one token.
    """
    exchanges = conversation.exchanges
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
    return [*tokenizer.begin, *tokenizer.encode(template.render(turn).text)]


def encode_later_request(turn: Turn, template: ConversationTemplate, tokenizer: Encoder) -> list[int]:
    """Return the ids of a request as they follow the end token of the response before it."""
    return tokenizer.encode_continuation(template.render(turn, first=False).text)


def _fit_first(
    name: str, exchange: tuple[Turn, Turn], template: ConversationTemplate, tokenizer: Encoder, max_length: int
) -> tuple[list[int], list[int], tuple[int, int]]:
    """Return ids of a request and its response, and how many of each had to be left out."""
    whole, response = encode_request(exchange[0], template, tokenizer), _encode_response(exchange[1], tokenizer)
    if len(whole) + len(response) <= max_length:
        return whole, response, (0, 0)
    request = template.render(exchange[0])
    before = [*tokenizer.begin, *tokenizer.encode(request.before)]
    body, after = tokenizer.encode_continuation(request.body), tokenizer.encode_continuation(request.after)
    room = max_length - len(before) - len(after)
    if room < 1:
        raise UserError(
            f"conversation {name}: the prompt's template alone has {len(before) + len(after)} tokens, max_length is "
            f"{max_length}. Raise max_length."
        )
    kept = min(len(body), room - len(response) if len(response) <= room else room // 2)
    answered = response[: room - kept]
    return before + body[:kept] + after, answered, (len(body) - kept, len(response) - len(answered))


def _encode_response(turn: Turn, tokenizer: Encoder) -> list[int]:
    return [*tokenizer.encode_continuation(turn.text), tokenizer.end]
