"""Instruction following from the command line: three kinds of files train, and what is learned are the responses."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from mm_adapter.data.conversation import USER, Turn
from mm_adapter.data.conversations import read_conversations
from mm_adapter.data.encoding import encode_request
from mm_adapter.model import MultimodalLlama

WORDS = ("red", "blue", "green", "black", "white", "brown")


@pytest.fixture(scope="module")
def instructions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Alpaca's format in a file for each split; every response is one sentence."""
    folder = tmp_path_factory.mktemp("alpaca")
    for split, count in (("train", 24), ("val", 6), ("test", 6)):
        records = [
            {
                "instruction": f"Name a colour, number {index}.",
                "input": WORDS[index % 6] * (index % 2),
                "output": "It is red.",
            }
            for index in range(count)
        ]
        (folder / f"{split}.json").write_text(json.dumps(records))
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures with a table of questions about some of them."""
    folder = tmp_path_factory.mktemp("table")
    for number, colour in enumerate(WORDS):
        Image.new("RGB", (40, 40), colour).save(folder / f"{number}.png")
    with open(folder / "table.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "question", "answer"])
        for number in range(18):
            writer.writerow([f"{number % 6}.png" if number % 3 else "", "Which colour?", WORDS[number % 6]])
    return folder


def plain_loss(model: MultimodalLlama, records: list[dict[str, Any]]) -> float:
    """Loss per token of the responses, one plain pass per record, written again without the package's batches."""
    total, count = 0.0, 0
    for record in records:
        asked = encode_request(
            Turn(USER, record["instruction"], record["input"]), model.conversation_template, model.tokenizer
        )
        answered = [*model.tokenizer.encode_continuation(record["output"]), model.tokenizer.end]
        table = model(torch.tensor([asked + answered]))[0].log_softmax(-1)
        total -= sum(float(table[len(asked) + place - 1, token]) for place, token in enumerate(answered))
        count += len(answered)
    return total / count


def test_responses_are_learned_and_measured(command, tiny_folder, instructions, tmp_path):
    """Training lowers the loss of unseen responses, and the loss reported is that of plain passes."""
    where = ["--data", instructions, "--quiet"]
    shape = ["--layers", 3, "--prompt-length", 4, "--max-length", 700, "--batch-size", 6]
    run = tmp_path / "run"
    outcome = command(
        *("train", "--preset", "alpaca-smollm2", "--llama", tiny_folder, "--out", run, "--epochs", 30),
        *("--dtype", "float32", "--base-lr", 2.0, "--ema-decay", 0, *shape, *where),
    )
    assert outcome.status == 0, outcome.err
    assert "24 to train on, 6 to validate" in outcome.err
    base = command(
        *(
            "evaluate",
            "--adapter",
            "none",
            "--llama",
            tiny_folder,
            "--prompt-template",
            "alpaca",
            "--out",
            tmp_path / "base",
        ),
        *where,
    )
    trained = command("evaluate", "--adapter", run, "--split", "test", "--out", tmp_path / "trained", *where)
    assert base.status == trained.status == 0, (base.err, trained.err)
    losses = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("base", "trained")]
    assert losses[1]["loss_per_token"] < 0.8 * losses[0]["loss_per_token"]
    assert f"{losses[1]['loss_per_token']:.4f}" in trained.out
    assert losses[1]["perplexity"] == pytest.approx(math.exp(losses[1]["loss_per_token"]))
    records = json.loads((instructions / "test.json").read_text())
    with torch.no_grad():
        expected = plain_loss(MultimodalLlama.from_pretrained(adapter=run), records)
    assert losses[1]["loss_per_token"] == pytest.approx(expected, abs=1e-4)
    rows = [json.loads(line) for line in (tmp_path / "trained" / "responses.jsonl").read_text().splitlines()]
    assert sum(row["response_tokens"] for row in rows) == losses[1]["response_tokens"]
    described = json.loads((run / "adapter_config.json").read_text())
    assert described["task"] == {"prompt_template": "alpaca", "max_length": 700}
    answer = MultimodalLlama.from_pretrained(adapter=run).answer("Name a colour.", choices=["It is red.", "xyzzy"])
    assert answer.text == "It is red."


def test_a_table_of_pictures_trains(command, refused, small, pictures, store, tmp_path):
    """A CSV with pictures and without is enough; a part of it is held out."""
    options = [option for option in small if option not in ("--vision", "none")]
    where = ["--data", pictures / "table.csv", "--out", tmp_path / "run", "--features", store]
    outcome = command("train", *where, *options)
    assert outcome.status == 0, outcome.err
    assert "17 to train on, 1 to validate" in outcome.err
    described = json.loads((tmp_path / "run" / "adapter_config.json").read_text())
    assert described["vision"]["tower"] == "efficientnet-lite0"
    data = ["--data", pictures / "table.csv", "--features", store, "--quiet"]
    arguments = ["evaluate", "--adapter", tmp_path / "run", "--out", tmp_path / "measured", "--split", "all", *data]
    outcome = command(*arguments)
    assert "18 conversations" in outcome.out
    for option in (("--images", "none"), ("--explain",)):
        assert "is of questions" in refused(*arguments, *option)


def test_conversations_of_several_turns_train(command, small, pictures, tmp_path):
    """LLaVA's format, the picture in the first turn, later turns learned as well."""
    turns = [
        {"from": "human", "value": "<image>\nWhich colour?"},
        {"from": "gpt", "value": "Red."},
        {"from": "human", "value": "Sure?"},
        {"from": "gpt", "value": "Yes."},
    ]
    plain = [{"from": "human", "value": "Which colour?"}, *turns[1:]]
    records = [{"id": str(n), "image": f"{n}.png", "conversations": turns} for n in range(3)]
    records += [{"id": str(n), "conversations": plain} for n in range(3, 8)]
    (tmp_path / "talk.json").write_text(json.dumps(records))
    where = ["--data", tmp_path / "talk.json", "--image-folder", pictures, "--out", tmp_path / "run"]
    options = [option for option in small if option not in ("--vision", "none")]
    outcome = command("train", *where, *options, "--max-length", "900", "--prompt-template", "llama-2")
    assert outcome.status == 0, outcome.err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["shortened"] == {"train": 0, "val": 0}


def test_bad_conversations(refused, small, pictures, instructions, tmp_path):
    """One message each: pictures for a model without a tower, a missing field, a split that is not there."""
    where = ["--out", tmp_path / "run", *small]
    message = refused("train", "--data", pictures / "table.csv", *where)
    assert "takes none" in message
    assert "--vision NAME" in message
    (tmp_path / "bad.jsonl").write_text('{"instruction": "a", "output": "b"}\n{"instruction": "c"}\n')
    message = refused("train", "--data", tmp_path / "bad.jsonl", *where)
    assert "bad.jsonl" in message
    assert "line 2" in message
    assert "output" in message
    message = refused("train", "--data", instructions, "--prompt-template", "alpacka", *where)
    assert "did you mean 'alpaca'" in message
    assert "chat format" in refused("train", "--data", instructions, "--prompt-template", "own", *where)
    nowhere = ["--data", tmp_path, "--image-folder", tmp_path / "none"]
    assert "image folder does not exist" in refused("train", *nowhere, *where)
    assert not (tmp_path / "run").exists()


def test_ids_that_come_again_are_numbered(instructions, tmp_path):
    """Merged sets repeat ids; what is kept for one conversation is never taken for another."""
    records = [{"id": name, "instruction": "a", "output": "b"} for name in ("1", "1", "1 (2)", "1")]
    (tmp_path / "merged.json").write_text(json.dumps(records))
    names = [conversation.id for conversation in read_conversations(str(tmp_path / "merged.json"))]
    assert len(set(names)) == 4
    assert names[0] == "1"
