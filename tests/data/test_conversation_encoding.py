"""Conversations as ids: responses alone are learned, in Alpaca's words, and never cut while they can be kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_templates import Letters

from mm_adapter.core.errors import UserError
from mm_adapter.data.conversation import ASSISTANT, USER, Conversation, EncodedConversation, Turn
from mm_adapter.data.encoding import encode_conversation, encode_request
from mm_adapter.data.templates import AlpacaTemplate

TEMPLATE, LETTERS = AlpacaTemplate(), Letters()
PLAIN = Conversation("1", (Turn(USER, "Name a bird."), Turn(ASSISTANT, "An owl.")))
ABOUT = Conversation("2", (Turn(USER, "Translate.", "owl"), Turn(ASSISTANT, "Eule")))
FRAME = len(LETTERS.begin) + len(TEMPLATE.render(Turn(USER, "")).text)


def talk(*texts: str) -> Conversation:
    turns = [Turn((USER, ASSISTANT)[index % 2], text) for index, text in enumerate(texts)]
    return Conversation("talk", tuple(turns))


def encode(conversation: Conversation, max_length: int = 10_000) -> EncodedConversation:
    return encode_conversation(conversation, TEMPLATE, LETTERS, max_length)


def learned(encoded: EncodedConversation) -> list[int]:
    return [token for token, target in zip(encoded.tokens, encoded.targets, strict=True) if target]


def test_the_words_of_alpaca() -> None:
    """To the letter: models trained on the 52K know these prompts and no others."""
    assert TEMPLATE.render(Turn(USER, "Name a bird.")).text == (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nName a bird.\n\n### Response:"
    )
    assert TEMPLATE.render(Turn(USER, "Translate.", "owl")).text == (
        "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
        "response that appropriately completes the request.\n\n"
        "### Instruction:\nTranslate.\n\n### Input:\nowl\n\n### Response:"
    )


def test_later_requests_have_the_headings_alone() -> None:
    """What describes the task is said once."""
    assert TEMPLATE.render(Turn(USER, "Why?"), first=False).text == "\n\n### Instruction:\nWhy?\n\n### Response:"


@pytest.mark.parametrize("conversation", [PLAIN, ABOUT])
def test_the_response_and_its_end_are_learned(conversation: Conversation) -> None:
    """Nothing of the request is a target, the end token is; the beginning is the tokenizer's."""
    encoded = encode(conversation)
    assert learned(encoded) == [*LETTERS.encode(conversation.turns[1].text), LETTERS.end]
    asked = encode_request(conversation.turns[0], TEMPLATE, LETTERS)
    assert list(encoded.tokens[: len(asked)]) == asked
    assert asked[:1] == list(LETTERS.begin)
    assert (encoded.cut_request, encoded.cut_response, encoded.dropped_exchanges) == (0, 0, 0)


def test_every_response_of_a_conversation_is_learned() -> None:
    """Each with an end token of its own, between requests that are not."""
    encoded = encode(talk("a?", "b.", "c?", "d."))
    assert learned(encoded) == [*LETTERS.encode("b."), LETTERS.end, *LETTERS.encode("d."), LETTERS.end]
    assert LETTERS.decode(encoded.tokens).endswith("a?\n\n### Response:b.\n\n### Instruction:\nc?\n\n### Response:d.")


def test_an_empty_response_is_an_end() -> None:
    """A few of the 52K say nothing; that is what is learned then."""
    assert learned(encode(talk("Say nothing.", ""))) == [LETTERS.end]


def test_the_request_yields_first() -> None:
    """Its input loses its end; instruction, headings and the whole response stay."""
    conversation = Conversation("4", (Turn(USER, "Sum up.", "x" * 50), Turn(ASSISTANT, "Short.")))
    whole = len(encode(conversation).tokens)
    encoded = encode(conversation, whole - 30)
    assert encoded.cut_request == 30
    assert len(encoded.tokens) == whole - 30
    assert LETTERS.decode(encoded.tokens).endswith("### Input:\n" + "x" * 20 + "\n\n### Response:Short.")


@given(
    texts=st.lists(st.tuples(st.text("ab", max_size=40), st.text("cd", max_size=40)), min_size=1, max_size=4),
    room=st.integers(1, 200),
)
def test_nothing_is_too_long_and_no_response_is_cut_without_need(texts: list[tuple[str, str]], room: int) -> None:
    """Whatever the lengths: within the limit, whole responses wherever the first one fits beside the bare template."""
    encoded = encode(talk(*(text for pair in texts for text in pair)), FRAME + room)
    assert len(encoded.tokens) == len(encoded.targets) <= FRAME + room
    kept = texts[: len(texts) - encoded.dropped_exchanges]
    whole = [token for _, answer in kept for token in [*LETTERS.encode(answer), LETTERS.end]]
    first_request, first_answer = texts[0]
    if len(first_answer) + 1 <= room:
        assert encoded.cut_response == 0
        assert learned(encoded) == whole
        assert encoded.cut_request == max(0, len(first_request) + len(first_answer) + 1 - room)
    else:
        assert encoded.cut_response > 0
        assert len(kept) == 1
        assert learned(encoded) == whole[: len(whole) - encoded.cut_response]
        assert len(encoded.tokens) == FRAME + room
        assert len(first_request) - encoded.cut_request == min(len(first_request), room // 2)


def test_no_room_for_the_template() -> None:
    """A limit below the template's own length is refused, by number."""
    with pytest.raises(UserError, match=f"has {FRAME} tokens, max_length is {FRAME}"):
        encode(PLAIN, FRAME)
