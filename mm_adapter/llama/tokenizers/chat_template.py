"""How conversations are written for instruct models: the template that came with the model, or a known family's."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from mm_adapter.core.errors import UserError, suggestion
from mm_adapter.core.files import read_json, refuse_pointer
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
        names: text of further special tokens by role, such as ``pad_token``, for the template.
    """

    name: str
    template: str
    begin: str
    end: str
    end_tokens: tuple[int, ...]
    names: Mapping[str, str] = field(default_factory=dict)

    def render(self, messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> str:
        """Return the conversation as text, as ``apply_chat_template`` of ``transformers`` does.

        Args:
            messages: each with a ``role`` (``system``, ``user`` or ``assistant``) and its ``content``.
            add_generation_prompt: end where the assistant goes on.

        Raises:
            UserError: the template is damaged, or refuses this order of turns.
        """
        # Imported here: most runs write no conversation.
        from mm_adapter.llama.tokenizers.template_bounds import BoundedEnvironment, GenerationBlock, limited_time

        environment = BoundedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", GenerationBlock]
        )
        environment.globals |= {"raise_exception": _raise, "strftime_now": _strftime_now}
        environment.filters["tojson"] = _to_json
        try:
            with limited_time():
                return environment.from_string(self.template).render(
                    messages=[dict(message) for message in messages],
                    add_generation_prompt=add_generation_prompt,
                    tools=None,
                    documents=None,
                    **{"bos_token": self.begin, "eos_token": self.end, **self.names},
                )
        except Exception as error:  # a template may fail in any way that Python can
            raise UserError(
                f"the model's chat template cannot be used ({error}). Options --chat and --prompt-template, where a "
                f"command has them, take another: {', '.join(FAMILIES)}; generate --raw takes none."
            ) from error

    def encode(
        self, tokenizer: Tokenizer, messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = True
    ) -> list[int]:
        """Return the conversation as ids, begin-of-sequence included where the tokenizer has it.

        Of a Hugging Face folder's own template they are those of ``apply_chat_template``, which begins as the template
        does. Elsewhere special tokens are put in by id, since SentencePiece would spell them out.
        """
        text = self.render(messages, add_generation_prompt)
        return tokenizer.encode(text) if self._is_whole(tokenizer) else self._begun(tokenizer, text)

    def around_request(self, tokenizer: Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...], bool]:
        """Return what stands around a single request: ids before it, begin-of-sequence included, and ids after it.

        The flag tells whether an answer begins with a space of its own there.
        """
        before, _, after = self.render([{"role": "user", "content": _REQUEST}]).partition(_REQUEST)
        if self._is_whole(tokenizer):
            opening, closing = tokenizer.encode(before) if before else [], tokenizer.encode_continuation(after)
        else:
            opening, closing = self._begun(tokenizer, before), self._ids(tokenizer, after)
        return tuple(opening), tuple(closing), not after[-1:].isspace()

    def _is_whole(self, tokenizer: Tokenizer) -> bool:
        """Tell whether the tokenizer finds every special token in a text, and the template is its own."""
        return self.name == "own" and getattr(tokenizer, "names", None) is not None

    def _begun(self, tokenizer: Tokenizer, text: str) -> list[int]:
        ids, begin = self._ids(tokenizer, text), list(tokenizer.begin)
        return ids if ids[: len(begin)] == begin else begin + ids

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
    names: Mapping[str, str] | None = getattr(tokenizer, "names", None)
    if name != "own" or names is None:
        return ChatTemplate(name, text, begin, end, tuple(end_tokens))
    return ChatTemplate(name, text, names.get("bos_token", ""), names.get("eos_token", ""), tuple(end_tokens), names)


def read_chat_template(folder: Path) -> str | None:
    """Return the template in a Hugging Face folder, or None where there is none.

    Raises:
        UserError: a file of the folder is damaged.
    """
    plain, settings = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    template = None
    if plain.is_file():
        refuse_pointer(plain)
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


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


def _to_json(value: Any, **options: Any) -> str:
    # Jinja's own filter writes for HTML; templates want plain JSON.
    return json.dumps(value, **{"ensure_ascii": False, **options})
