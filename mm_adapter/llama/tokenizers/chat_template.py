"""How conversations are written for instruct models: the template that came with the model, or a known family's."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2.sandbox import ImmutableSandboxedEnvironment  # a dependency of torch itself

from mm_adapter.core.errors import UserError, suggestion
from mm_adapter.core.files import read_json
from mm_adapter.llama.tokenizers.tokenizer import Tokenizer

_REQUEST = "\ue000"  # stands in for a request's text: private use, so no template has it
_LONGEST_TEMPLATE = 1 << 16
_TURN_ENDS = ("<|eot_id|>", "<|eom_id|>", "<|im_end|>", "</s>")

FAMILIES = {
    "chatml": (
        "{% for turn in messages %}<|im_start|>{{ turn.role }}\n{{ turn.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "llama-3": (
        "{{ bos_token }}{% for turn in messages %}<|start_header_id|>{{ turn.role }}<|end_header_id|>\n\n"
        "{{ turn.content | trim }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
    ),
    "llama-2": (
        "{% set next = namespace(system='') %}{% for turn in messages %}"
        "{% if turn.role == 'system' %}{% set next.system = '<<SYS>>\n' ~ turn.content | trim ~ '\n<</SYS>>\n\n' %}"
        "{% elif turn.role == 'user' %}{{ bos_token }}[INST] {{ next.system }}{{ turn.content | trim }} [/INST]"
        "{% set next.system = '' %}"
        "{% else %} {{ turn.content | trim }} {{ eos_token }}{% endif %}{% endfor %}"
    ),
    "mistral": (
        "{{ bos_token }}{% set next = namespace(system='') %}{% for turn in messages %}"
        "{% if turn.role == 'system' %}{% set next.system = turn.content | trim ~ '\n\n' %}"
        "{% elif turn.role == 'user' %}[INST] {{ next.system }}{{ turn.content | trim }} [/INST]"
        "{% set next.system = '' %}"
        "{% else %} {{ turn.content | trim }}{{ eos_token }}{% endif %}{% endfor %}"
    ),
}
_SIGNS = {"<|start_header_id|>": "llama-3", "<|im_start|>": "chatml", "[INST]": "mistral"}


@dataclass(frozen=True)
class ChatTemplate:
    """A way to write conversations.

    Attributes:
        name: the family, or ``own`` for the template that came with the model.
        template: in Jinja's language, as ``transformers`` uses it; run in Jinja's sandbox, out of reach of Python.
        begin, end: text of the tokenizer's special tokens, empty where it has none.
        end_tokens: ids that end an answer.
    """

    name: str
    template: str
    begin: str
    end: str
    end_tokens: tuple[int, ...]

    def render(self, messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> str:
        """Return the conversation as text, as ``apply_chat_template`` of ``transformers`` does.

        Args:
            messages: each with a ``role`` (``system``, ``user`` or ``assistant``) and its ``content``.
            add_generation_prompt: end where the assistant goes on.

        Raises:
            UserError: the template is damaged, or refuses this order of turns.
        """
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals["raise_exception"] = _raise
        try:
            return environment.from_string(self.template).render(
                messages=[dict(message) for message in messages],
                add_generation_prompt=add_generation_prompt,
                bos_token=self.begin,
                eos_token=self.end,
            )
        except Exception as error:  # a template may fail in any way that Python can
            raise UserError(
                f"the model's chat template cannot be used ({error}). Choose another: {', '.join(FAMILIES)}."
            ) from error

    def encode(
        self, tokenizer: Tokenizer, messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = True
    ) -> list[int]:
        """Return the conversation as ids, begin-of-sequence included where the tokenizer has it.

        Special tokens are put in by id, since SentencePiece would spell them out.
        """
        ids, begin = self._ids(tokenizer, self.render(messages, add_generation_prompt)), list(tokenizer.begin)
        return ids if ids[: len(begin)] == begin else begin + ids

    def around_request(self, tokenizer: Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...], bool]:
        """Return what stands around a single request: ids before it, begin-of-sequence included, and ids after it.

        The flag tells whether an answer begins with a space of its own there.
        """
        before, _, after = self.render([{"role": "user", "content": _REQUEST}]).partition(_REQUEST)
        opening, begin = self._ids(tokenizer, before), list(tokenizer.begin)
        opening = opening if opening[: len(begin)] == begin else begin + opening
        return tuple(opening), tuple(self._ids(tokenizer, after)), not after[-1:].isspace()

    def _ids(self, tokenizer: Tokenizer, text: str) -> list[int]:
        special = {self.end: [tokenizer.end], self.begin: list(tokenizer.begin)}
        special.pop("", None)
        ids: list[int] = []
        pattern = "|".join(re.escape(text) for text in special)
        for part in re.split(f"({pattern})", text) if pattern else [text]:
            ids += special[part] if part in special else tokenizer.encode(part) if part else []
        return ids


def find_chat_template(
    tokenizer: Tokenizer, template: str | None = None, family: str | None = None
) -> ChatTemplate | None:
    """Return how to talk to a model, or None where nothing says it.

    Args:
        tokenizer: its special tokens tell the family where there is no template.
        template: that the model's files carry.
        family: one of ``FAMILIES``, chosen by the user; goes before everything else.

    Raises:
        UserError: an unknown family.
    """
    if family is not None and family not in FAMILIES:
        known = list(FAMILIES)
        raise UserError(
            f"chat format {family!r} is not known{suggestion(family, known)}; there are: {', '.join(known)}."
        )
    name = family or ("own" if template else None)
    if name is None:
        name = next((kind for sign, kind in _SIGNS.items() if tokenizer.special_id(sign) is not None), None)
    if name is None:
        return None
    text = template if name == "own" and template is not None else FAMILIES[name]
    end = tokenizer.piece(tokenizer.end)
    ends = [tokenizer.special_id(mark) for mark in _TURN_ENDS if mark in text]
    end_tokens = dict.fromkeys([*(token for token in ends if token is not None), tokenizer.end])
    begin = tokenizer.piece(tokenizer.begin[0]) if len(tokenizer.begin) == 1 else ""
    return ChatTemplate(name, text, begin, end, tuple(end_tokens))


def read_chat_template(folder: Path) -> str | None:
    """Return the template in a Hugging Face folder, or None where there is none.

    Raises:
        UserError: a file of the folder is damaged.
    """
    plain, settings = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    template = None
    if plain.is_file():
        try:
            template = plain.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{plain}: the chat template is not text ({error}). Fetch it again.") from error
    elif settings.is_file():
        values = read_json(settings, "tokenizer configuration")
        template = values.get("chat_template") if isinstance(values, dict) else None
        if isinstance(template, list):
            named = {item.get("name"): item.get("template") for item in template if isinstance(item, dict)}
            template = named.get("default")
    if template is not None and (not isinstance(template, str) or len(template) > _LONGEST_TEMPLATE):
        raise UserError(f"{folder}: the chat template is not a text of at most {_LONGEST_TEMPLATE} letters.")
    return template


def _raise(message: str) -> None:
    raise UserError(str(message))
