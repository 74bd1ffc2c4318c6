"""How an instruction follower is spoken to: Alpaca's prompt, or the chat format of an instruct model."""

from dataclasses import dataclass

from mm_adapter.core.errors import UserError, suggestion
from mm_adapter.data.alpaca import AlpacaTemplate, Request
from mm_adapter.data.conversation import Turn
from mm_adapter.data.conversation_encoding import ConversationTemplate
from mm_adapter.llama.tokenizers import chat_template as chat
from mm_adapter.llama.tokenizers.chat_template import FAMILIES, ChatTemplate

PROMPT_TEMPLATES = ("alpaca", "own", *FAMILIES)
_FIRST, _ANSWER, _SECOND = "\ue001", "\ue002", "\ue003"  # stand in for what is said: private use, in no template


@dataclass(frozen=True)
class ConversationPrompting:
    """How requests are put; kept with an adapter, so that it is asked as it was taught.

    Attributes:
        wording: ``alpaca`` (Stanford Alpaca's prompt), ``own`` (the model's chat format) or a family of chat formats.
        max_length: tokens of a conversation; longer ones are shortened.
    """

    wording: str = "alpaca"
    max_length: int = 512

    def __post_init__(self) -> None:
        if self.wording not in PROMPT_TEMPLATES:
            known = ", ".join(PROMPT_TEMPLATES)
            raise UserError(
                f"wording {self.wording!r} is not known{suggestion(self.wording, PROMPT_TEMPLATES)}; {known} are."
            )
        if not isinstance(self.max_length, int) or self.max_length < 16:
            raise UserError(f"max_length {self.max_length!r} leaves no room for a request; 16 tokens are the least.")


class ChatTurnTemplate:
    """A chat format as the wording of single turns, each followed by its response and the end token."""

    def __init__(self, chat_template: ChatTemplate) -> None:
        turns = [chat.Turn("user", _FIRST), chat.Turn("assistant", _ANSWER), chat.Turn("user", _SECOND)]
        opening, _, self._closing = chat_template.render(turns[:1]).partition(_FIRST)
        between = chat_template.render(turns).partition(_ANSWER)[2].partition(_SECOND)[0]
        # Begin and end tokens are put in by id: encoding adds one before a conversation, one after each response.
        head, ended, rest = between.partition(chat_template.end) if chat_template.end else ("", "", between)
        between = rest if ended and not head.strip() else between
        self._opening, self._between = (
            text.removeprefix(chat_template.begin) if chat_template.begin else text for text in (opening, between)
        )

    def render(self, turn: Turn, first: bool = True) -> Request:
        """Return a user's turn as text."""
        said = f"{turn.context}\n{turn.text}" if turn.context else turn.text
        return Request(self._opening if first else self._between, said, self._closing)


def make_conversation_template(wording: str, chat_template: ChatTemplate | None, where: str) -> ConversationTemplate:
    """Return the wording of requests.

    Args:
        wording: see ``ConversationPrompting``.
        chat_template: that which is meant; not needed for Alpaca's.
        where: the model's name, for messages.

    Raises:
        UserError: a chat format is asked for and there is none.
    """
    if wording == "alpaca":
        return AlpacaTemplate()
    if chat_template is None:
        known = ", ".join(PROMPT_TEMPLATES)
        raise UserError(f"{where}: its files tell no chat format; name one of {known}.")
    return ChatTurnTemplate(chat_template)
