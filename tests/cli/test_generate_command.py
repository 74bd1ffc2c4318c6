"""``mm-adapter generate``: one prompt as it comes, many in order, and what it refuses."""

import io
import json
import sys

import pytest

from mm_adapter import MultimodalLlama
from mm_adapter.data.conversation import USER, Turn
from mm_adapter.data.encoding import encode_request
from mm_adapter.data.prompt_file import PromptRecord
from mm_adapter.inference.generation import GenerationConfig, generate_tokens
from mm_adapter.inference.prompted_generation import generate, stream

SHORT = ["--max-new-tokens", "6"]


class Pipe(io.StringIO):
    """Standard input with text waiting in it, or a terminal."""

    def __init__(self, text, terminal=False):
        super().__init__(text)
        self.terminal = terminal

    def isatty(self):
        return self.terminal


@pytest.fixture
def base(tiny_folder):
    """Options of the base model."""
    return ["--adapter", "none", "--llama", str(tiny_folder), *SHORT]


@pytest.fixture
def picture(demo_folder):
    return next((demo_folder / "images" / "test").glob("*/image.png"))


def prompts(*texts):
    return [PromptRecord(Turn(USER, text)) for text in texts]


def test_streamed_is_unstreamed_is_the_bare_decoder(text_run):
    """The pieces of a stream, the text of a batch and a plain loop without our streams are one and the same."""
    model = MultimodalLlama.from_pretrained(adapter=text_run)
    given = prompts("Why?", "A longer question, is it?", "Hm")
    together = list(generate(model, given, GenerationConfig(9), batch_size=2))
    for prompt, written in zip(given, together, strict=True):
        assert "".join(stream(model, prompt, GenerationConfig(9))) == written.text
        ids = encode_request(prompt.request, model.conversation_template, model.tokenizer)
        tokens = generate_tokens(model.llama, [ids], model.end_tokens, model.prefixes(), 9)[0]
        assert (written.text, written.tokens) == (model.tokenizer.decode(tokens), len(tokens))
        assert written.finished == (len(tokens) < 9)


def test_raw_continues_and_a_request_is_worded(command, base):
    """Alpaca's prompt stands around a request to a model without a chat format, nothing around a raw one."""
    from mm_adapter.data.templates import AlpacaTemplate

    wording = AlpacaTemplate().render(Turn(USER, "Why?")).text
    asked = command("generate", *base, "Why?").out
    assert asked == command("generate", *base, "--raw", wording).out
    assert asked != command("generate", *base, "--raw", "Why?").out


def test_many_come_in_order_from_file_and_pipe(command, base, tmp_path, monkeypatch):
    """Lines of a file or a pipe, plain or JSON: the same texts, each with its prompt, whatever the batches."""
    texts = ["first", "a second one that is longer", "3"]
    plain, lines = tmp_path / "plain.txt", tmp_path / "lines.jsonl"
    plain.write_text("\n\n".join(texts) + "\r\n")
    lines.write_text("".join(json.dumps({"instruction": text, "output": "unused"}) + "\n" for text in texts))
    found = [json.loads(line) for line in command("generate", *base, "--file", plain, "--json").out.splitlines()]
    assert [one["prompt"] for one in found] == texts
    assert all(set(one) == {"prompt", "text", "tokens", "finished"} for one in found)
    by_two = command("generate", *base, "--file", lines, "--json", "--batch-size", "2").out
    assert [json.loads(line) for line in by_two.splitlines()] == found
    monkeypatch.setattr(sys, "stdin", Pipe(lines.read_text()))
    assert command("generate", *base, "--json").out == by_two
    shown = command("generate", *base, "--file", plain).out
    assert shown == "".join(f"--- {n} of 3: {one['prompt']}\n{one['text']}\n\n" for n, one in enumerate(found, 1))
    single = command("generate", *base, texts[0])
    assert single.out == found[0]["text"] + "\n"


def test_input_is_part_of_a_request(command, base, tmp_path):
    """What a task is about changes the answer, and stands in the JSON."""
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"instruction": "Sort."}\n{"instruction": "Sort.", "input": "c a b"}\n')
    without, with_input = map(json.loads, command("generate", *base, "--file", lines, "--json").out.splitlines())
    assert with_input["input"] == "c a b"
    assert "input" not in without
    assert with_input["text"] != without["text"]


def test_pictures_count(command, picture_run, picture, tmp_path):
    """A picture from the option or a record changes the prefix; prompts beside it without one are as without."""
    (tmp_path / "a.png").write_bytes(picture.read_bytes())
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"prompt": "Which?"}\n{"prompt": "Which?", "image": "a.png"}\n')
    model = MultimodalLlama.from_pretrained(adapter=picture_run)
    model.adapter.gates.data.fill_(1.0)
    from mm_adapter.data.prompt_file import read_prompts

    without, seen = generate(model, read_prompts(lines), GenerationConfig(12))
    assert without.text == next(generate(model, prompts("Which?"), GenerationConfig(12))).text
    assert seen.text == "".join(stream(model, PromptRecord(Turn(USER, "Which?"), picture), GenerationConfig(12)))
    assert command("generate", "--adapter", picture_run, *SHORT, "--image", picture, "Which?").status == 0


def test_stop_strings_and_seeds(command, base):
    """A stop string ends the text and is not in it; a seed decides a draw."""
    full = json.loads(command("generate", *base, "--json", "Why?").out)
    stop = full["text"][2:4]
    cut = json.loads(command("generate", *base, "--json", "--stop", "ZZZ", "--stop", stop, "Why?").out)
    assert cut["text"] == full["text"][: full["text"].index(stop)]
    assert cut["finished"]
    draws = [*base, "--temperature", "2", "--top-k", "50", "Why?", "--seed"]
    assert command("generate", *draws, "1").out == command("generate", *draws, "1").out
    assert len({command("generate", *draws, seed).out for seed in range(4)}) > 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([" "], "the prompt is empty"),
        (["long " * 400], "tokens, the model's context is 1024"),
        (["Why?", "--file", "x"], "leave one of them out"),
        (["--file", "nowhere.txt"], "nowhere.txt"),
        (["Why?", "--image", "nowhere.png"], "takes no pictures"),
        (["Why?", "--temperature", "-1"], "temperature is -1"),
        (["Why?", "--temperature", "nan"], "temperature is nan"),
        (["Why?", "--temperature", "1", "--top-p", "2"], "--top-p is 2; it must be greater than 0 and at most 1"),
        (["Why?", "--temperature", "1", "--top-k", "-2"], "--top-k is -2"),
        (["Why?", "--top-k", "5"], "--top-k has no effect at temperature 0"),
        (["Why?", "--repetition-penalty", "0"], "--repetition-penalty is 0; it must be at least 0.01"),
        (["Why?", "--seed", "-1"], "--seed is -1; it must be at least 0 and less than 2 ** 63"),
        (["Why?", "--stop", ""], "stop string is empty"),
        (["Why?", "--max-new-tokens", "0"], "--max-new-tokens is 0; it must be at least 1"),
        (["Why?", "--batch-size", "0", "--json"], "--batch-size is 0"),
    ],
)
def test_bad_input(refused, base, options, said):
    """Each with one message and exit status 2."""
    assert said in refused("generate", *base, *options)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"prompt": "a"}\nnot JSON\n', "line 2: not JSON"),
        ('{"prompt": "a"}\n{"text": "b"}\n', "line 2: has no 'instruction'"),
        ('{"prompt": "a", "instruction": "b"}\n', "line 1: has 'prompt' and 'instruction'"),
        ('{"prompt": "a", "image": "../b.png"}\n', "outside the image folder"),
        ('{"prompt": "a", "image": "b.png"}\n', "picture that is missing"),
        ('{"prompt": 3}\n', "in 'prompt' where text belongs"),
        (" \n\n", "there is no prompt"),
        ("fine\n" + "long " * 400, "line 2: it has"),
    ],
)
def test_bad_files(refused, base, tmp_path, text, said):
    """File and line are named, before anything is written."""
    path = tmp_path / "prompts.txt"
    path.write_text(text)
    message = refused("generate", *base, "--file", path)
    assert said in message
    assert str(tmp_path) in message


def test_raw_refuses_requests(refused, base, tmp_path):
    """A task and its input are a request, and cannot be continued as they stand."""
    path = tmp_path / "prompts.jsonl"
    for record in ('{"instruction": "a"}', '{"prompt": "a", "input": "b"}'):
        path.write_text(record)
        assert "--raw continues a 'prompt'" in refused("generate", *base, "--raw", "--file", path)


def test_unreadable_picture(refused, picture_run, tmp_path):
    """The picture is named."""
    (tmp_path / "bad.png").write_bytes(b"no picture")
    assert "bad.png" in refused("generate", "--adapter", picture_run, "Why?", "--image", tmp_path / "bad.png")


@pytest.mark.parametrize(("pipe", "said"), [(Pipe("", True), "there is no prompt"), (Pipe(""), "there is no prompt")])
def test_no_prompt_at_all(refused, base, monkeypatch, pipe, said):
    """Neither a terminal nor an empty pipe is waited for."""
    monkeypatch.setattr(sys, "stdin", pipe)
    assert said in refused("generate", *base)
