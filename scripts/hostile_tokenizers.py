"""Hostile tokenizers and chat templates of a base model: damaged, endless, naming files and code."""

import json
import os
import pickle
import shutil
from pathlib import Path
from random import Random
from typing import Any

Made = tuple[str, str, Path, bool]
"""What it is, ``base`` or ``adapter``, where it lies, and whether it must be refused."""


class Code:
    """What writes a file when it is unpickled: nothing may do so."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self.canary}/executed",))


def base_of(folder: Path, places: dict[str, Any]) -> Path:
    """Return a copy of the small base."""
    return Path(shutil.copytree(places["llama"], folder / "base"))


def tokenizer(draw: Random, folder: Path, places: dict[str, Any]) -> Made:
    """A tokenizer that is damaged, or whose settings name files, code or endless templates."""
    where = base_of(folder, places)
    path = where / "tokenizer.json"
    values = json.loads(path.read_text())
    kind = draw.choice(("cut", "deep", "type", "regex", "vocabulary", "merges", "named", "unpickled", "ids"))
    if kind == "cut":
        path.write_text(path.read_text()[: draw.randrange(3000)])
    elif kind == "deep":
        path.write_text("[" * 100_000)
    elif kind == "named":
        settings = {
            "tokenizer_file": "/etc/passwd",
            "tokenizer_class": "os.system",
            "auto_map": {"AutoTokenizer": "x.y"},
        }
        (where / "tokenizer_config.json").write_text(json.dumps(settings))
        (where / "x.py").write_text(f"open({str(places['canary'] / 'executed')!r}, 'w')\n")
        return "tokenizer's settings that name files and code", "base", where, False
    elif kind == "unpickled":
        path.write_bytes(pickle.dumps(Code(places["canary"])))
    else:
        changes: dict[str, Any] = {
            "type": {"model": draw.choice((None, [], {"type": "None"}, {**values["model"], "type": "BPE2"}))},
            "regex": {"normalizer": {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""}},
            "vocabulary": {"model": {**values["model"], "vocab": draw.choice(([], {"a": 10**12}, {"a": -1}, None))}},
            "merges": {"model": {**values["model"], "merges": [["nowhere", "here"]]}},
            "ids": {"added_tokens": [{"id": 10**9, "content": "<s>", "special": True}]},
        }
        path.write_text(json.dumps({**values, **changes[kind]}))
    return f"tokenizer, {kind}", "base", where, kind in ("cut", "deep", "type", "merges", "unpickled")


def template_of(draw: Random, folder: Path, places: dict[str, Any]) -> Made:
    """A chat template without an end, of gigabytes, or that climbs out of its sandbox."""
    where = base_of(folder, places)
    loops = "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}"
    climbs = "{{ messages.__class__.__mro__[1].__subclasses__() }}{{ cycler.__init__.__globals__.os.system('id') }}"
    grows = "{% set ns = namespace(t='x') %}{% for a in range(60) %}{% set ns.t = ns.t + ns.t %}{% endfor %}{{ ns.t }}"
    text = (
        loops,
        climbs,
        grows,
        "{{ 'x' * 10**10 }}",
        "{% include '/etc/passwd' %}",
        "{{",
        "x" * 10**6,
        "{{ 9**9**9 }}",
    )
    template = draw.choice((*text, "{{ ('%' ~ 10**9 ~ 'd') % 1 }}", "{{ messages[0].content | indent(10**9) }}"))
    (where / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    return f"chat template {template[:40]}", "base", where, False
