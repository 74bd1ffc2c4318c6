"""``mm-adapter answer``: one question, for people and for programs."""

import json
import subprocess
import sys

import pytest

from mm_adapter import MultimodalLlama


@pytest.fixture
def picture(demo_folder):
    return next((demo_folder / "images" / "test").glob("*/image.png"))


def test_choices_have_probabilities(command, text_run):
    """The likeliest option first, then all with their share."""
    question = ["--adapter", text_run, "--question", "Which one?", "--choices", "cat", "dog", "owl"]
    outcome = command("answer", *question)
    assert outcome.status == 0
    answer, *rows = outcome.out.splitlines()
    assert answer in ("cat", "dog", "owl")
    assert [row.split()[-1] for row in rows] == ["cat", "dog", "owl"]
    assert sum(row.strip().startswith("*") for row in rows) == 1
    listed = json.loads(command("answer", *question, "--json").out)
    assert listed["answer"] == answer == listed["choices"][listed["choice"]]["text"]
    assert sum(choice["probability"] for choice in listed["choices"]) == pytest.approx(1)


def test_context_and_picture_count(command, picture_run, picture):
    """What goes with the question changes the probabilities."""
    question = ["--adapter", picture_run, "--question", "Which one?", "--choices", "cat", "dog", "--json"]
    found = {
        json.dumps(json.loads(command("answer", *question, *more).out)["choices"])
        for more in ([], ["--context", "It barks."], ["--image", picture])
    }
    assert len(found) == 3


def test_free_answer(command, tiny_folder):
    """Without choices the model writes, the base model too; JSON has no choice then."""
    question = ["--adapter", "none", "--llama", tiny_folder, "--question", "Why?", "--max-new-tokens", "5"]
    assert command("answer", *question).status == 0
    listed = json.loads(command("answer", *question, "--json").out)
    assert (listed["choice"], listed["choices"]) == (-1, [])


def test_command_and_python_agree(command, text_run):
    """The five lines of Python give what the command prints."""
    model = MultimodalLlama.from_pretrained(adapter=text_run)
    answer = model.answer("Which one?", choices=["cat", "dog"])
    arguments = ["--adapter", text_run, "--question", "Which one?", "--choices", "cat", "dog", "--json"]
    listed = json.loads(command("answer", *arguments).out)
    assert listed["choice"] == answer.choice
    assert [choice["probability"] for choice in listed["choices"]] == pytest.approx(list(answer.probabilities))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--choices", "only"], "at least two"),
        (["--choices", "a", "b", "--context", "c", "--question", "long " * 400], "tokens without any context"),
        (["--max-new-tokens", "many"], "--max-new-tokens is 'many'; it must be a whole number"),
        (["--max-new-tokens", "-3"], "--max-new-tokens"),
        (["--device", "gpu"], "device 'gpu' cannot be used"),
        (["--dtype", "float23"], "did you mean 'float32'"),
    ],
)
def test_bad_questions(refused, text_run, options, said):
    """Each with one message and exit status 2."""
    assert said in refused("answer", "--adapter", text_run, "--question", "Which?", *options)


def test_picture_for_a_model_that_takes_none(refused, text_run, tiny_folder, picture):
    """A picture is never silently left out."""
    for adapter in ([text_run], ["none", "--llama", tiny_folder]):
        message = refused("answer", "--adapter", *adapter, "--question", "Which?", "--image", picture)
        assert "takes no pictures" in message


def test_picture_that_is_not_there(refused, picture_run):
    """The file is named."""
    message = refused("answer", "--adapter", picture_run, "--question", "Which?", "--image", "nowhere.png")
    assert "nowhere.png" in message


def test_reader_that_went_away(text_run):
    """`mm-adapter answer | head -0` is no error."""
    arguments = ["answer", "--adapter", str(text_run), "--question", "Which?", "--choices", "a", "b"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mm_adapter", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 0, errors
    assert "Traceback" not in errors
    assert "Broken" not in errors
