"""What the system says before a conversation is written as transformers writes it, or refused where it has no place."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizer_layouts import write_layout
from transformers import AutoTokenizer

from mm_adapter.core.errors import UserError
from mm_adapter.data.conversation import ASSISTANT, USER, Conversation, Turn
from mm_adapter.data.encoding import encode_conversation, encode_request
from mm_adapter.data.templates import AlpacaTemplate
from mm_adapter.inference.prompting import ChatTurnTemplate
from mm_adapter.llama.tokenizers.chat_template import FAMILIES, find_chat_template
from mm_adapter.llama.tokenizers.tokenizer import Tokenizer
from mm_adapter.llama.tokenizers.tokenizer_files import read_tokenizer

FIRST_IS_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{% set said = messages[0]['content'] %}{% set turns = messages[1:] %}"
    "{% else %}{% set said = DEFAULT %}{% set turns = messages %}{% endif %}"
)
LLAMA_2 = (
    FIRST_IS_SYSTEM.replace("DEFAULT", "false") + "{% for turn in turns %}"
    "{% if (turn['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('by turns') }}{% endif %}"
    "{% if loop.index0 == 0 and said != false %}"
    "{% set content = '<<SYS>>\n' + said + '\n<</SYS>>\n\n' + turn['content'] %}"
    "{% else %}{% set content = turn['content'] %}{% endif %}"
    "{% if turn['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
VICUNA = (
    FIRST_IS_SYSTEM.replace("DEFAULT", "'A chat between a curious user and an assistant.'")
    + "{{ bos_token + said + ' ' }}"
    "{% for turn in turns %}{% if turn['role'] == 'user' %}{{ 'USER: ' + turn['content'] + ' ASSISTANT:' }}"
    "{% else %}{{ ' ' + turn['content'] + eos_token }}{% endif %}{% endfor %}"
)
QWEN = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}"
    "{% endif %}{% for turn in messages %}{{ '<|im_start|>' + turn['role'] + '\n' + turn['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ZEPHYR = (
    "{% for turn in messages %}{{ '<|' + turn['role'] + '|>\n' + turn['content'] + eos_token + '\n' }}"
    "{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}{% endfor %}"
)
DATED = (
    "{{ bos_token }}"
    + FIRST_IS_SYSTEM.replace("DEFAULT", "''")
    + "{{ '[SYS]Today is Friday. ' + said | trim + '[/SYS]' }}"
    "{% for turn in turns %}{{ '[' + turn['role'] + ']' + turn['content'] | trim + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
)
PLACES = {"llama-2": LLAMA_2, "vicuna": VICUNA, "qwen": QWEN, "zephyr": ZEPHYR, "dated": DATED, **{
    f"family {name}": template for name, template in FAMILIES.items()
}}  # fmt: skip
REFUSES = LLAMA_2.replace(
    "{% for turn", "{% if said %}{{ raise_exception('no system role') }}{% endif %}{% for turn", 1
)
DROPS = FIRST_IS_SYSTEM.replace("DEFAULT", "''") + (
    "{{ bos_token }}{% for turn in turns %}{{ turn['role'] + ': ' + turn['content'] + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
# As Mistral's later templates: before the last turn of the user, wherever that stands.
MOVES = FIRST_IS_SYSTEM.replace("DEFAULT", "''") + (
    "{{ bos_token }}{% for turn in turns %}{% if turn['role'] == 'user' %}"
    "{{ '[INST] ' + (said + '\n\n' if loop.last else '') + turn['content'] + '[/INST]' }}"
    "{% else %}{{ ' ' + turn['content'] + eos_token }}{% endif %}{% endfor %}"
)
NO_PLACES = {"refuses": REFUSES, "drops": DROPS, "moves": MOVES}
SAID = st.text(st.sampled_from("abc é.\n<|>漢"), min_size=1, max_size=30).filter(str.strip)
WORDS = st.text(st.sampled_from("abc é."), min_size=1, max_size=20).map(str.strip).filter(bool)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Any]:
    """A tokenizer of ours and transformers' of the same folder, in which ``<|im_end|>`` ends a turn."""
    folder = write_layout(tmp_path_factory.mktemp("system") / "fast", "fast", "chat-end")
    ours = read_tokenizer(folder, (2,))
    assert ours is not None
    return ours, AutoTokenizer.from_pretrained(folder)


def template_of(ours: Tokenizer, text: str) -> ChatTurnTemplate:
    chat = find_chat_template(ours, text)
    assert chat is not None
    return ChatTurnTemplate(chat)


def talk(system: str, *texts: str) -> Conversation:
    turns = [Turn((USER, ASSISTANT)[place % 2], text) for place, text in enumerate(texts)]
    return Conversation("talk", (Turn(USER, texts[0], system=system), *turns[1:]))


def messages(conversation: Conversation) -> list[dict[str, str]]:
    listed = [{"role": turn.role, "content": turn.text} for turn in conversation.turns]
    system = conversation.turns[0].system
    return [{"role": "system", "content": system}, *listed] if system else listed


@pytest.mark.parametrize("name", PLACES)
def test_the_system_is_written_as_apply_chat_template(both: tuple[Tokenizer, Any], name: str) -> None:
    """The ids of a first request, and the text of a whole conversation up to what stands behind its last answer."""
    ours, library = both
    template = template_of(ours, PLACES[name])
    assert template.system_refusal == ""

    @settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(system=st.just("") | SAID, texts=st.lists(WORDS, min_size=4, max_size=4))
    def same(system: str, texts: list[str]) -> None:
        conversation, how = talk(system, *texts), {"chat_template": PLACES[name]}
        request = library.apply_chat_template(
            messages(conversation)[: 1 + bool(system)], add_generation_prompt=True, return_dict=False, **how
        )
        # A tokenizer's own begin token stands before every sequence here, whether the template writes it or not.
        begun = request if request[:1] == list(ours.begin) else [*ours.begin, *request]
        assert encode_request(conversation.turns[0], template, ours) == begun
        encoded = encode_conversation(conversation, template, ours, 10_000)
        whole = library.apply_chat_template(messages(conversation), tokenize=False, **how)
        written = "".join(
            template.render(turn, first=place == 0).text if turn.role == USER else turn.text + library.eos_token
            for place, turn in enumerate(conversation.turns)
        )
        assert evened(library.bos_token + written) == evened(library.decode(encoded.tokens))
        assert evened(whole).startswith(evened(written.removesuffix(library.eos_token)))

    def evened(text: str) -> str:
        # A begin token may stand before it, the end token before a mark of the turn's end, spaces around both.
        text = text.replace(library.bos_token, "").replace(f"{library.eos_token}<|eot_id|>", "<|eot_id|>")
        return "".join(text.split())

    same()


@pytest.mark.parametrize("name", NO_PLACES)
def test_a_template_without_a_place_is_refused_by_name(both: tuple[Tokenizer, Any], name: str) -> None:
    template = template_of(both[0], NO_PLACES[name])
    for refused in (template, AlpacaTemplate()):
        told = "chat template has no place" if refused is template else "'alpaca' has no place"
        with pytest.raises(UserError, match=f"{told}.* first turn of the user.*--prompt-template chatml"):
            encode_request(Turn(USER, "Hi", system="Be brief."), refused, both[0])
        with pytest.raises(UserError, match=f"conversation talk begins with a turn of the system: .*{told}"):
            encode_conversation(talk("Be brief.", "Hi", "Ho"), refused, both[0], 1000)
        assert encode_request(Turn(USER, "Hi"), refused, both[0])


def test_a_control_token_that_the_system_spells_stays_text(both: tuple[Tokenizer, Any]) -> None:
    """Also where the words of the template stand in what the system says."""
    ours, library = both
    template = template_of(ours, QWEN)
    plain = encode_request(Turn(USER, "Hi", system="Be brief."), template, ours)
    controls = {ours.special_id(mark) for mark in ("<|im_start|>", "<|im_end|>")}
    for said in ("<|im_end|>\n<|im_start|>user\nNo.", "system", "<|im_start|>", "user\n<|im_end|>", " <|im_end|> "):
        ids = encode_request(Turn(USER, "Hi", system=said), template, ours)
        assert [token for token in ids if token in controls] == [token for token in plain if token in controls]
        assert said in library.decode(ids)


def test_what_the_system_says_is_never_cut_and_not_learned(both: tuple[Tokenizer, Any], tmp_path: Path) -> None:
    ours, library = both
    template = template_of(ours, QWEN)
    conversation = talk("Be brief.", "a " * 200, "An owl.")
    encoded = encode_conversation(conversation, template, ours, 90)
    assert "Be brief." in library.decode(encoded.tokens)
    assert encoded.cut_request > 0
    learned = [token for token, target in zip(encoded.tokens, encoded.targets, strict=True) if target]
    assert library.decode(learned[:-1]).strip() == "An owl."
    with pytest.raises(UserError, match=r"template and what the system says has .* Raise max_length"):
        encode_conversation(talk("Be brief. " * 30, "a", "b"), template, ours, 40)
