"""Help as plain text: what a command does, examples, usage, and a sentence with the facts about every option."""

import inspect
import re
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin

from cyclopts import Argument, ArgumentCollection
from cyclopts.validators import Number

from mm_adapter.cli.options import Value
from mm_adapter.core.errors import limits_text

_WIDEST, _NARROWEST = 100, 24
_NO_DEFAULT = (None, "", (), inspect.Parameter.empty)
_QUOTED, _SPACE = re.compile("'[^']*'"), "\ue000"
_VALUES = {"int": "N", "float": "X", "str": "TEXT", "Path": "PATH"}
EXAMPLES = (
    "mm-adapter demo",
    "mm-adapter train --preset smollm2 --data scienceqa --out runs/first",
    "mm-adapter evaluate --adapter runs/first --data scienceqa --out runs/first/test",
)


def program_help(program: str, commands: Mapping[str, str]) -> str:
    """Return the help of the program: its subcommands."""
    width = _width()
    lines = [*_wrapped("Multimodal question answering with a frozen LLaMA.", width), ""]
    lines += [*_examples(EXAMPLES, width), "", f"usage: {program} COMMAND [OPTIONS]", "", "Commands:"]
    for name, text in commands.items():
        lines += [f"  {name}", *_wrapped(text, width, "      ")]
    lines += ["", "Options:", "  --help, -h", *_wrapped("Show this help, or that of COMMAND.", width, "      ")]
    lines += ["  --version", *_wrapped("Show the version.", width, "      ")]
    return "\n".join(lines)


def command_help(name: str, text: str, command: Any, options: ArgumentCollection) -> str:
    """Return the help of a subcommand.

    Args:
        name: program and subcommand.
        text: what it does.
        command: its function; ``examples`` and ``notes`` of its module are shown.
        options: of the function.
    """
    width = _width()
    module = command.__globals__
    lines = [*_wrapped(" ".join([text, *module.get("NOTES", ())]), width), "", *_examples(module["EXAMPLES"], width)]
    shown = [option for option in options if option.show and option.parse and option.name != "*"]
    required = [_usage(option) for option in shown if option.required]
    lines += ["", *_wrapped(" ".join([f"usage: {name}", *required, "[OPTIONS]"]), width, "", "    ")]
    for title in dict.fromkeys(map(_title, shown)):
        lines += ["", f"{title}:"]
        for option in shown:
            if _title(option) == title:
                lines += [f"  {_usage(option)}", *_wrapped(sentence(option), width, "      ")]
    lines += ["", "  --help, -h", *_wrapped("Show this help.", width, "      ")]
    return "\n".join(lines)


def sentence(option: Argument) -> str:
    """Return what an option does, and in brackets its choices, range and default."""
    text = option.parameter.help or ""
    facts = facts_of(option)
    return f"{text} [{'; '.join(facts)}]" if facts else text


def facts_of(option: Argument) -> list[str]:
    """Return choices or range, and the default, as far as there are any."""
    if value_of(option).facts:
        return list(value_of(option).facts)
    facts = []
    choices = choices_of(option.hint)
    if choices:
        facts.append(f"choices: {', '.join(choices)}")
    if limits := limits_of(option):
        facts.append(limits)
    default = option.field_info.default
    if option.required:
        facts.append("required")
    elif default is False:
        facts.append("default: off")
    elif default not in _NO_DEFAULT:
        facts.append(f"default: {' '.join(map(str, default)) if isinstance(default, tuple) else default}")
    elif not re.search("by default|required", option.parameter.help or ""):
        facts.append("default: none")
    return facts


def value_of(option: Argument) -> Value:
    """Return what is said of an option's value in its definition."""
    said = [part for part in get_args(option.field_info.annotation) if isinstance(part, Value)]
    return said[-1] if said else Value("")


def choices_of(kind: Any) -> tuple[str, ...]:
    """Return the values that a type lists, wherever in it; empty where it lists none."""
    if str(get_origin(kind)) == "typing.Literal":
        return tuple(map(str, get_args(kind)))
    return tuple(dict.fromkeys(value for part in get_args(kind) for value in choices_of(part)))


def limits_of(option: Argument) -> str:
    """Return the range of an option in words; empty where there is none."""
    checks: Any = option.parameter.validator
    found = [check for check in checks if isinstance(check, Number)]
    return limits_text(gt=found[0].gt, ge=found[0].gte, lt=found[0].lt, le=found[0].lte) if found else ""  # type: ignore[arg-type]


def _title(option: Argument) -> str:
    groups: Any = option.parameter.group or ()
    names = [group.name for group in groups if not isinstance(group, str)]
    return names[0] if names and names[0] not in ("Parameters", "Arguments") else "Options"


def _usage(option: Argument) -> str:
    """Return an option's names and what stands for its value."""
    if option.is_flag():
        return ", ".join(option.names)
    several = option.parameter.consume_multiple
    value = value_of(option).name or _VALUES.get(_kind(option.hint), "VALUE")
    if several == (0, 1):
        value = f"[{value}]"
    elif several or option.token_count()[1]:
        value = f"{value} ..."
    named = [name for name in option.names if name.startswith("-")]
    return f"{', '.join(named)} {value}" if named else value


def _kind(hint: Any) -> str:
    """Return the name of the plain type within a hint such as ``tuple[Path, ...] | None``."""
    while get_args(hint) and str(get_origin(hint)) != "typing.Literal":
        hint = next((part for part in get_args(hint) if part not in (type(None), ...)), str)
    return getattr(hint, "__name__", "str")


def _examples(examples: Sequence[str], width: int) -> list[str]:
    lines = ["Examples:"]
    for example in examples:
        # Broken where a shell takes it up again, so that it can be copied from a narrow terminal.
        whole = _QUOTED.sub(lambda match: match[0].replace(" ", _SPACE), example)
        parts = [part.replace(_SPACE, " ") for part in _wrapped(whole, width - 2, "  ", "      ")]
        lines += [f"{part} \\" for part in parts[:-1]] + parts[-1:]
    return lines


def _wrapped(text: str, width: int, indent: str = "", further: str | None = None) -> list[str]:
    further = indent if further is None else further
    return textwrap.wrap(
        text, width, initial_indent=indent, subsequent_indent=further, break_long_words=False, break_on_hyphens=False
    )


def _width() -> int:
    return max(_NARROWEST, min(_WIDEST, shutil.get_terminal_size().columns))
