"""Words of a command line arrive as they are meant: sentences behind dashes, options given twice, flags."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mm_adapter import MultimodalLlama
from mm_adapter.cli import arranged, build_app
from mm_adapter.cli.options import ModelOptions
from mm_adapter.inference import prompted_generation
from mm_adapter.inference.generation import GenerationConfig


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[str, ...]]]:
    """Prompt and stop strings that a model receives."""
    found: list[tuple[str, tuple[str, ...]]] = []

    def stream(model: Any, prompt: Any, config: GenerationConfig, raw: bool) -> Iterator[str]:
        found.append((prompt.request.text, tuple(config.stop_strings)))
        return iter(())

    monkeypatch.setattr(MultimodalLlama, "from_pretrained", lambda **named: None)
    monkeypatch.setattr(ModelOptions, "check", lambda *_: None)
    monkeypatch.setattr(prompted_generation, "stream", stream)
    return found


@pytest.mark.parametrize(
    ("words", "prompt", "stop_strings"),
    [
        (["--adapter", "n", "--stop", "a", "--", "- b c"], "- b c", ("a",)),
        (["--adapter", "n", "- item"], "- item", ()),
        (["--adapter", "n", "--temperature", "0.5", "--stop", "a", "- b c"], "- b c", ("a",)),
        (["--adapter", "n", "--raw", "- hello there"], "- hello there", ()),
        (["- item", "--adapter", "n"], "- item", ()),
        (["--adapter", "n", "--", "--raw"], "--raw", ()),
        (["--adapter", "n", "--stop", "- b c", "Why?"], "Why?", ("- b c",)),
        (["--adapter", "n", "--stop", "--x", "--stop=- y", "-"], "-", ("--x", "- y")),
        (["--adapter=n", "-\nb"], "-\nb", ()),
    ],
)
def test_prompts_that_begin_with_a_dash(
    command: Callable[..., Any],
    received: list[tuple[str, tuple[str, ...]]],
    words: list[str],
    prompt: str,
    stop_strings: tuple[str, ...],
) -> None:
    """The model receives the prompt, and no option does."""
    outcome = command("generate", *words)
    assert (outcome.status, outcome.err) == (0, "")
    assert received == [(prompt, stop_strings)]


def bound(*words: str) -> dict[str, Any]:
    """Return the arguments that a subcommand is called with."""
    app = build_app()
    options = app[words[0]].assemble_argument_collection()
    return dict(app.parse_args([words[0], *arranged(words[1:], options)])[1].arguments)


ASKED = ["answer", "--adapter", "none", "--question"]


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["train", "--resume", "auto", "--resume", "no"], "resume", ("no",)),
        (["train", "--resume", "no", "--resume"], "resume", ()),
        (["train", "--data", "a", "--data=b"], "data", "b"),
        (["train", "--layers", "3", "--layers", "4"], "settings", {"layers": "4"}),
        ([*ASKED, "Why?", "--choices", "a", "--choices", "b", "c"], "choices", ("b", "c")),
        ([*ASKED, "Why?", "--choices", "a", "- b", "-1"], "choices", ("a", "- b", "-1")),
        ([*ASKED, "- or +"], "question", "- or +"),
        ([*ASKED, "Why?", "--context", "- a=b"], "context", "- a=b"),
        (["report", "a", "--training", "x", "--training", "y", "--out", "o", "--data", "d", "--", "b"], "runs",
         (Path("a"), Path("b"))),
        (["report", "a", "--training", "x", "--training", "y", "--out", "o", "--data", "d"], "training", (Path("y"),)),
    ],
)  # fmt: skip
def test_of_an_option_that_is_given_twice_the_last_one_counts(words: list[str], name: str, value: Any) -> None:
    """Also of several values; and values with dashes are values."""
    assert bound(*words)[name] == value


def test_explanations_given_twice() -> None:
    """The last one counts, also where it has no value."""
    words = ["score", "--predictions", "p", "--data", "d", "--explanations", "lecture-solution", "--explanations"]
    assert bound(*words)["reading"].reference == "solution"
    assert bound(*words, "lecture-solution")["reading"].reference == "lecture-solution"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "--no-quiet"], "unknown option --no-quiet, did you mean '--quiet'? See mm-adapter train --help."),
        (["answer", "--empty-choices"], "unknown option --empty-choices"),
        (["generate", "--adapter", "n", "--raw=x", "hi"], "--raw takes no value; 'x' was given. See mm-adapter gen"),
        (["train", "--quiet=true"], "--quiet takes no value; 'true' was given"),
        (["train", "--version"], "unknown option --version"),
        (["report", "--data", "d", "--out", "o", "--training", "--", "a"], "--training takes at least 1 value"),
    ],
)
def test_flags_and_unknown_options(refused: Callable[..., str], words: list[str], said: str) -> None:
    """Our sentence, with where help is."""
    message = refused(*words)
    assert said in message
    assert message.endswith("--help.")
