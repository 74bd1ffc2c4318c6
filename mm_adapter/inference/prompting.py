"""How a model is asked: the templates of questions and of conversations that an adapter was taught."""

from dataclasses import dataclass
from functools import cached_property

from mm_adapter.core.errors import UserError, suggestion
from mm_adapter.data.conversation import USER, ConversationTemplate, Request, Turn
from mm_adapter.data.templates import (
    AlpacaTemplate,
    Frame,
    Prompting,
    QuestionTemplate,
    make_template,
)
from mm_adapter.llama.model import Llama
from mm_adapter.llama.tokenizers.chat_template import FAMILIES, ChatTemplate, find_chat_template
from mm_adapter.llama.tokenizers.tokenizer import Tokenizer

PROMPT_TEMPLATES = ("alpaca", "own", *FAMILIES)
# These stand in for what is said: private use, in no template.
_FIRST, _ANSWER, _SECOND, _SYSTEM = "\ue001", "\ue002", "\ue003", "\ue004"


_MESSAGES = [
    {"role": role, "content": content}
    for role, content in (("user", _FIRST), ("assistant", _ANSWER), ("user", _SECOND))
]


@dataclass(frozen=True)
class ConversationPrompting:
    """How requests are put; kept with an adapter, so that it is asked as it was taught.

    Attributes:
        prompt_template: ``alpaca`` (Stanford Alpaca's prompt), ``own`` (the model's chat template) or a family of them.
        max_length: tokens of a conversation; longer ones are shortened.
    """

    prompt_template: str = "alpaca"
    max_length: int = 512

    def __post_init__(self) -> None:
        name = self.prompt_template
        if name not in PROMPT_TEMPLATES:
            known = ", ".join(PROMPT_TEMPLATES)
            raise UserError(f"prompt_template {name!r} is not known{suggestion(name, PROMPT_TEMPLATES)}; {known} are.")
        if not isinstance(self.max_length, int) or self.max_length < 16:
            raise UserError(f"max_length {self.max_length!r} leaves no room for a request; 16 tokens are the least.")


class ChatTurnTemplate:
    """A chat format as the template of single turns, each followed by its response and the end token."""

    def __init__(self, chat_template: ChatTemplate) -> None:
        self._chat = chat_template
        self._with_systems: dict[str, tuple[str, str, str]] = {}
        opening, _, self._closing = chat_template.render(_MESSAGES[:1]).partition(_FIRST)
        between = chat_template.render(_MESSAGES).partition(_ANSWER)[2].partition(_SECOND)[0]
        # Begin and end tokens are put in by id: encoding adds one before a conversation, one after each response.
        head, ended, rest = between.partition(chat_template.end) if chat_template.end else ("", "", between)
        between = rest if ended and not head.strip() else between
        self._opening, self._between = (
            text.removeprefix(chat_template.begin) if chat_template.begin else text for text in (opening, between)
        )

    @cached_property
    def system_refusal(self) -> str:
        """Why what the system says cannot be written: the template refuses, drops or moves it; empty where it can."""
        try:
            single, whole = (self._chat.render([_system(_SYSTEM), *_MESSAGES[:count]]) for count in (1, 3))
        except UserError:
            single = whole = ""
        opening, _, following = whole.partition(_FIRST)
        plain = self._chat.render(_MESSAGES).partition(_FIRST)[2]
        if _SYSTEM in opening and single.partition(_FIRST)[0] == opening and following == plain:
            return ""
        own = "the model's own chat template" if self._chat.name == "own" else f"the chat format {self._chat.name!r}"
        return (
            f"{own} has no place for what the system says. Write it into the first turn of the user, or name a format "
            "that has one (--prompt-template chatml, llama-2, llama-3 or mistral)."
        )

    def render(self, turn: Turn, first: bool = True) -> Request:
        """Return a user's turn as text, with what the system says before it as ``apply_chat_template`` writes it."""
        said = f"{turn.context}\n{turn.text}" if turn.context else turn.text
        if not (first and turn.system):
            return Request(self._opening if first else self._between, said, self._closing)
        if self.system_refusal:
            raise UserError(self.system_refusal)
        if turn.system not in self._with_systems:
            self._with_systems[turn.system] = self._with_system(turn.system)
        lead, system, before = self._with_systems[turn.system]
        return Request(before, said, self._closing, lead, system)

    def _with_system(self, text: str) -> tuple[str, str, str]:
        """Return what stands before the text of the system, it, and what stands between it and the first request."""
        place, opening = (
            self._chat.render([_system(said), *_MESSAGES[:1]]).partition(_FIRST)[0].removeprefix(self._chat.begin)
            for said in (_SYSTEM, text)
        )
        lead, _, before = place.partition(_SYSTEM)
        # Some templates take spaces off; one that looks into the text writes it as it likes.
        for written in (text, text.strip()):
            if opening == lead + written + before:
                return lead, written, before
        lead, found, before = opening.partition(text.strip())
        if not found:
            raise UserError(f"the chat template writes something else than what the system says: {text[:80]!r}.")
        return lead, found, before


def _system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


def make_conversation_template(name: str, chat_template: ChatTemplate | None, where: str) -> ConversationTemplate:
    """Return the template of requests.

    Args:
        name: see ``ConversationPrompting``.
        chat_template: that which is meant; not needed for Alpaca's.
        where: the model's name, for messages.

    Raises:
        UserError: a chat format is asked for and there is none.
    """
    if name == "alpaca":
        return AlpacaTemplate()
    if chat_template is None:
        known = ", ".join(PROMPT_TEMPLATES)
        raise UserError(f"{where}: its files tell no chat format; name one of {known}.")
    return ChatTurnTemplate(chat_template)


def question_template_of_conversations(template: ConversationTemplate, tokenizer: Tokenizer) -> QuestionTemplate:
    """Return how a model that was taught conversations is asked a question: as in those, with the options listed."""
    request = template.render(Turn(USER, ""))
    opening = (*tokenizer.begin, *tokenizer.encode(request.before))
    closing = tokenizer.encode_continuation(request.after)
    return make_template("QCM-A", "text", frame=Frame(opening, tuple(closing)))


def question_template_of_chat(
    prompting: Prompting, chat_template: ChatTemplate | None, tokenizer: Tokenizer, where: str
) -> QuestionTemplate:
    """Return the template of questions that are put as a user's turn in a chat.

    Args:
        chat_template: that which ``prompting`` names; None where the model has none of its own.
        where: the model's name, for messages.

    Raises:
        UserError: there is no such chat template.
    """
    if chat_template is None:
        known = ", ".join(FAMILIES)
        raise UserError(f"{where}: its files tell no chat format; name one of {known}, or none.")
    return prompting.make_template(Frame(*chat_template.around_request(tokenizer)))


class PromptedModel:
    """How a model is asked: the part of ``MultimodalLlama`` that knows its tokenizer and its templates.

    Attributes:
        llama: the frozen decoder.
        base_name: of the base model, for messages.
        prompting: how questions or requests are put.
    """

    llama: Llama
    base_name: str
    prompting: Prompting | ConversationPrompting
    _tokenizer: Tokenizer | None
    _chat: ChatTemplate | None

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer.

        Raises:
            UserError: the model's files have none.
        """
        if self._tokenizer is None:
            raise UserError(f"{self.base_name}: has no tokenizer to read text with; add tokenizer.json beside it.")
        return self._tokenizer

    @property
    def template(self) -> QuestionTemplate:
        """How questions are put: in a chat format where one is asked for, as in conversations where those were taught.

        Raises:
            UserError: the chat format is not known, or the model has none of its own.
        """
        if isinstance(self.prompting, ConversationPrompting):
            return question_template_of_conversations(self.conversation_template, self.tokenizer)
        if self.prompting.chat == "none":
            return self.prompting.make_template()
        chat = self._chat_template(self.prompting.chat)
        return question_template_of_chat(self.prompting, chat, self.tokenizer, self.base_name)

    @property
    def ranking(self) -> str:
        """Options are ranked by the ``mean`` or ``sum`` of their tokens' log-likelihoods."""
        return self.prompting.ranking if isinstance(self.prompting, Prompting) else "mean"

    @property
    def conversation_template(self) -> ConversationTemplate:
        """How requests are put in a conversation: as the adapter was taught, else as the model itself was.

        Raises:
            UserError: the model has no chat format of its own, and was taught none.
        """
        if isinstance(self.prompting, ConversationPrompting):
            name = self.prompting.prompt_template
        else:
            name = "alpaca" if self._chat is None else "own"
        chat = None if name == "alpaca" else self._chat_template(name)
        return make_conversation_template(name, chat, self.base_name)

    def _chat_template(self, family: str) -> ChatTemplate | None:
        return self._chat if family == "own" else find_chat_template(self.tokenizer, family=family)

    @property
    def max_length(self) -> int:
        """Tokens of prompt and answer together: as taught, and no more than the base model can read."""
        return min(self.prompting.max_length, self.llama.config.context_length)

    @property
    def end_tokens(self) -> set[int]:
        """Ids that end what the model writes; those that end a turn in its chat format among them."""
        turn_ends = () if self._chat is None else self._chat.end_tokens
        stated = set(self.llama.config.end_tokens) - set(self.tokenizer.begin)
        return {self.tokenizer.end, *stated, *turn_ends}
