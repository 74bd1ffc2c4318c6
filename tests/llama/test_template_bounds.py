"""A chat template of a model's files cannot run for long, take much memory or reach out; honest ones are as ever."""

import threading
import time
import tracemalloc
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mm_adapter.core.errors import UserError
from mm_adapter.llama.tokenizers.chat_template import FAMILIES, ChatTemplate
from mm_adapter.llama.tokenizers.template_bounds import BoundedEnvironment

DOUBLED = "{% set n = namespace(t='x') %}{% for a in range(60) %}{% set n.t = n.t OP n.t %}{% endfor %}{{ n.t }}"
HOSTILE = [
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
    "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(200) }}",
    "{% for a in [[1], [1]] recursive %}{% for b in range(9999) %}{{ b }}{% endfor %}{{ loop([a, a]) }}{% endfor %}",
    DOUBLED.replace("OP", "+"),
    DOUBLED.replace("OP", "~"),
    "{% set n = namespace(t=[1]) %}{% for a in range(60) %}{% set n.t = n.t + n.t %}{% endfor %}",
    "{{ 'x' * 10**10 }}",
    "{{ 10**10 * 'x' }}",
    "{{ [1] * 10**10 }}",
    "{{ 9**9**9 }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%*d' % (1000000000, 1) }}",
    "{{ '%1000000000d' | format(1) }}",
    "{{ '{:1000000000}'.format(1) }}",
    "{{ '{:{}}'.format(1, 1000000000) }}",
    "{{ 'x'.ljust(1000000000) }}",
    "{{ 'x' | center(1000000000) }}",
    "{{ 'a\nb' | indent(1000000000) }}",
    "{% set t = 'x' * 100000 %}{{ t | replace('x', t) }}",
    "{% set t = 'x' * 100000 %}{{ t.replace('x', t) }}",
    "{% set t = 'x' * 100000 %}{{ t.join(t) }}",
    "{% set t = 'x' * 100000 %}{{ ([t] * 10000) | join }}",
    "{% set t = 'x' * 8000000 %}{% set u %}{% for a in range(9999) %}{{ t }}{% endfor %}{% endset %}",
    "{{ messages.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.system('id') }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{{",
]
MESSAGES = [{"role": role, "content": f"words of {role}, 1 * 2"} for role in ("system", "user", "assistant", "user")]


@pytest.mark.parametrize("template", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_template_is_refused(template: str) -> None:
    """Within seconds, in little memory, by a message of the user's."""
    tracemalloc.start()
    began = time.monotonic()
    try:
        with pytest.raises(UserError, match="chat template cannot be used"):
            ChatTemplate("own", template, "", "", ()).render(MESSAGES)
        assert tracemalloc.get_traced_memory()[1] < 300 << 20
    finally:
        tracemalloc.stop()
    assert time.monotonic() - began < 8


def test_it_ends_in_a_thread_of_a_server_as_well() -> None:
    found: list[Any] = []

    def render() -> None:
        try:
            ChatTemplate("own", HOSTILE[0], "", "", ()).render(MESSAGES)
        except UserError as error:
            found.append(error)

    thread = threading.Thread(target=render, daemon=True)
    thread.start()
    thread.join(20)
    assert "runs for over 2 seconds" in str(found[0])


HONEST = [
    *FAMILIES.values(),
    "{{ messages | tojson(indent=2) }}{{ 3 * 4 + 2 ** 5 }}{{ 'a' * 3 ~ 5 ~ none }}{{ '%s and %5.2f' % ('x', 1.5) }}",
    "{{ messages[0].content.replace('o', 'oo').split(' ') | join('-') | upper | indent(2) | center(60) }}",
    "{% for m in messages %}{{ loop.index0 }}/{{ loop.length }} {{ m.content.strip().title() | trim }}\n{% endfor %}",
    "{% macro f(x) %}<{{ x }}>{% endmacro %}{% set t %}{{ f(1) }}{% endset %}{{ t ~ f('a & b') }}{{ [1] + [2] }}",
    "{{ messages | map(attribute='role') | unique | list }}{{ '{:>5}'.format('a') }}{{ 'a,b'.split(',') | length }}",
]


@pytest.mark.parametrize("template", HONEST, ids=range(len(HONEST)))
def test_an_honest_template_says_what_jinja_says(template: str) -> None:
    """To the letter, as in the sandbox without bounds."""
    options: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True}
    values = {"messages": MESSAGES, "bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True}
    plain = ImmutableSandboxedEnvironment(**options).from_string(template).render(**values)
    assert BoundedEnvironment(**options).from_string(template).render(**values) == plain


def test_a_long_conversation_is_no_hostile_one() -> None:
    """A thousand turns, and a turn of a million letters, in the time that a template has."""
    turns = [{"role": ("user", "assistant")[number % 2], "content": "word " * 200} for number in range(1001)]
    for messages in (turns, [{"role": "user", "content": "x" * 1_000_000}]):
        for family, template in FAMILIES.items():
            text = ChatTemplate(family, template, "<s>", "</s>", ()).render(messages)
            assert len(text) > 990_000
