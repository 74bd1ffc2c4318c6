"""Every option is explained where it is defined, and help shows it: a sentence, choices or range, default."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from cyclopts import Argument

from mm_adapter.cli import COMMANDS, build_app
from mm_adapter.cli.help import choices_of, facts_of, limits_of
from mm_adapter.core import QUANTIZATIONS
from mm_adapter.data.templates import ANSWER_FORMATS, EXPLANATIONS, PLACES
from mm_adapter.inference.prompting import PROMPT_TEMPLATES
from mm_adapter.llama.tokenizers.chat_template import FAMILIES
from mm_adapter.training.checked import RENAMED, choices, limits, unit
from mm_adapter.training.config import TrainingConfig, fields_by_key


def options(name: str) -> list[Argument]:
    """Return the options of a subcommand."""
    return [option for option in build_app()[name].assemble_argument_collection() if option.name != "*"]


def plain(text: str) -> str:
    """Return text without its line breaks."""
    return " ".join(text.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_sentence_and_its_facts(name: str, command: Callable[..., Any]) -> None:
    """The sentence is one, says more than the name, and stands in help with choices, range and default."""
    shown = plain(command(name, "--help").out)
    assert len(options(name)) >= 1
    for option in options(name):
        text = option.parameter.help or ""
        assert text[:1].isupper(), option.name
        assert text.endswith("."), option.name
        words = set(re.findall(r"[a-z]+", text.lower()))
        assert len(words) >= 3, option.name
        assert words - set(option.name.strip("-").lower().split("-")), option.name
        assert plain(text) in shown, option.name
        facts = facts_of(option)
        if facts:
            assert f"{plain(text)} [{'; '.join(facts)}]" in shown, option.name
        known = choices_of(option.hint)
        assert all(value in f"{text} {' '.join(facts)}" for value in known), option.name
        assert limits_of(option) in "; ".join(facts), option.name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_its_default(name: str) -> None:
    """In brackets where it is a value; in the sentence where it is something that is found out."""
    for option in options(name):
        told = " ".join((option.parameter.help or "", *facts_of(option)))
        assert "default" in told or "required" in told, option.name


def test_every_setting_is_told_in_its_field(command: Callable[..., Any]) -> None:
    """Sentence, choices or range, unit and default of the field are what ``train --help`` shows."""
    shown = plain(command("train", "--help").out)
    names = [name for option in options("train") for name in option.names]
    for key, field in fields_by_key().items():
        assert f"--{key.replace('_', '-')}" in names
        text = str(field.description)
        assert len(text.split()) >= 3, key
        assert text.endswith("."), key
        told = shown.split(plain(text), 1)[1].split("]", 1)[0]
        assert all(value in told for value in choices(field)), key
        assert limits(field) in told, key
        assert unit(field) in told, key
        assert "default: " in told, key
        if field.annotation is int or field.annotation is float:
            assert limits(field), key


def test_numbers_of_settings_have_units() -> None:
    """A count of something says of what; factors, seeds and shares are of nothing."""
    bare = {key for key, field in fields_by_key().items() if field.annotation in (int, float) and not unit(field)}
    assert bare == {
        "lora_alpha", "base_lr", "gate_lr_scale", "projection_lr_scale", "weight_decay", "max_grad_norm",
        "tuning_lr_scale", "ranking_weight", "language_weight", "label_smoothing", "ema_decay", "seed",
    }  # fmt: skip


def test_choices_are_those_of_the_parts() -> None:
    """What settings list is what templates, chat formats and matrices know."""
    known = {key: choices(field) for key, field in fields_by_key().items()}
    assert known["quantization"] == QUANTIZATIONS
    assert set(known["prompt_template"]) == set(PROMPT_TEMPLATES)
    assert set(known["chat"]) == {"none", "own", *FAMILIES}
    assert set(known["answer_format"]) == set(ANSWER_FORMATS)
    assert set(known["explanation"]) == set(EXPLANATIONS)
    assert set(known["explanation_place"]) == set(PLACES)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_begins_with_examples_that_parse(name: str, command: Callable[..., Any]) -> None:
    """Two or three command lines, of this command, whose options there are."""
    out = command(name, "--help").out
    examples = plain(out.split("Examples:")[1].split("usage:")[0].replace("\\\n", " "))
    assert out.index("Examples:") < out.index("usage: ")
    assert 2 <= examples.count(f"mm-adapter {name}") <= 3
    known = {label for option in options(name) for label in option.names}
    assert set(re.findall(r"(?<!\S)--[a-z-]+", examples)) <= known


@pytest.mark.parametrize("width", [40, 60, 100])
@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_the_terminal(
    name: str, width: int, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No line is wider than the terminal, and none is painted."""
    monkeypatch.setenv("COLUMNS", str(width))
    out = command(name, "--help").out
    assert "\x1b" not in out
    long = [line for line in out.splitlines() if len(line) > width and len(line.rstrip("\\ ").split()) > 1]
    assert not long


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_old_names_are_answered_with_the_new_ones(old: str, new: str, refused: Callable[..., str]) -> None:
    """An option of an earlier version is an error that names today's."""
    message = refused("train", f"--{old.replace('_', '-')}", "1")
    assert f"it is now --{new.replace('_', '-')}" in message
    assert hasattr(TrainingConfig(), new)
