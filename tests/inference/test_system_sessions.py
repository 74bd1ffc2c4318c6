"""What the system says stays at the head of a conversation, in a session and in a served chat."""

from pathlib import Path

import pytest

from mm_adapter.core.errors import UserError
from mm_adapter.data.conversation import USER, Turn
from mm_adapter.data.encoding import encode_request
from mm_adapter.inference.chat_session import ChatSession
from mm_adapter.inference.generation import GenerationConfig
from mm_adapter.inference.prompting import ConversationPrompting
from mm_adapter.llama.checkpoints.load import load_llama
from mm_adapter.model import MultimodalLlama
from mm_adapter.serving.limits import Limits
from mm_adapter.serving.prompts import Said, chat_prompt

SYSTEM = "Answer in one word."


@pytest.fixture
def model(tiny_folder: Path) -> MultimodalLlama:
    """A base model that is asked in ChatML."""
    return MultimodalLlama(load_llama(str(tiny_folder)), prompting=ConversationPrompting("chatml"))


def test_a_session_keeps_it_when_the_oldest_exchanges_are_dropped(model: MultimodalLlama) -> None:
    session = ChatSession(model, GenerationConfig(4), context=250, system=SYSTEM)
    head = encode_request(Turn(USER, "Why?", system=SYSTEM), model.conversation_template, model.tokenizer)
    assert session._encode([], Turn(USER, "Why?")) == head
    opening = head[: len(model.tokenizer.begin) + len(SYSTEM) + 20]
    for number in range(6):
        "".join(session.reply(f"Why is it number {number}?"))
        assert session._read[: len(opening)] == opening
    assert len(session.exchanges) < 6


def test_a_template_without_a_place_is_refused(tiny_folder: Path) -> None:
    with pytest.raises(UserError, match="'alpaca' has no place for what the system says"):
        ChatSession(MultimodalLlama(load_llama(str(tiny_folder))), system=SYSTEM)


def test_a_served_chat_puts_it_in_its_place(model: MultimodalLlama) -> None:
    """Also before earlier exchanges; without a place it opens the first request, as the documentation says."""
    asked = [Said("system", SYSTEM), Said("user", "Why?")]
    expected = encode_request(Turn(USER, "Why?", system=SYSTEM), model.conversation_template, model.tokenizer)
    assert chat_prompt("base", model, Limits(), asked) == expected
    longer = chat_prompt("base", model, Limits(), [*asked, Said("assistant", "So."), Said("user", "How?")])
    assert longer[: len(expected)] == expected
    model.prompting = ConversationPrompting("alpaca")
    opened = encode_request(Turn(USER, f"{SYSTEM}\n\nWhy?"), model.conversation_template, model.tokenizer)
    assert chat_prompt("base", model, Limits(), asked) == opened
