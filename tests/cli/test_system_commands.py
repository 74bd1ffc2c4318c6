"""Conversations that begin with a turn of the system, from the command line: trained, measured, answered with."""

import json
from pathlib import Path

import pytest

from mm_adapter.data.conversation import USER, Turn
from mm_adapter.data.encoding import encode_request
from mm_adapter.model import MultimodalLlama


@pytest.fixture
def talks(tmp_path: Path) -> Path:
    """Twelve conversations, every other one with what the system says."""
    path = tmp_path / "talks.jsonl"
    said = [{"role": "user", "content": "Which colour?"}, {"role": "assistant", "content": "Red."}]
    system = {"role": "system", "content": "Answer in one word."}
    rows = [{"messages": [system, *said] if number % 2 else said} for number in range(12)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_what_the_system_says_is_trained_and_answered_with(command, refused, small, talks, tmp_path):
    """Its tokens are part of what a response follows; chat and generate put it where training did."""
    run = tmp_path / "run"
    how = ["--max-length", "300", "--prompt-template", "llama-2", "--quiet"]
    outcome = command("train", "--data", talks, "--out", run, *small, *how)
    assert outcome.status == 0, outcome.err
    model = MultimodalLlama.from_pretrained(adapter=run)
    text = model.conversation_template.render(Turn(USER, "Which colour?", system="Answer in one word.")).text
    assert text == "[INST] <<SYS>>\nAnswer in one word.\n<</SYS>>\n\nWhich colour? [/INST]"
    measured = command(
        "evaluate", "--adapter", run, "--data", talks, "--split", "all", "--out", tmp_path / "m", "--quiet"
    )
    assert measured.status == 0, measured.err
    losses = [
        json.loads(line)["loss_per_token"] for line in (tmp_path / "m" / "responses.jsonl").read_text().splitlines()
    ]
    assert losses[0] == pytest.approx(losses[2])
    assert losses[1] == pytest.approx(losses[3])
    assert losses[0] != pytest.approx(losses[1])
    asked = ["generate", "--adapter", run, "--max-new-tokens", 6, "Which colour?"]
    ids = encode_request(Turn(USER, "Which colour?", system="Be kind."), model.conversation_template, model.tokenizer)
    told = command(*asked, "--system", "Be kind.")
    assert told.out.rstrip("\n") == model.generate([ids], max_new_tokens=6)[0].rstrip("\n")
    assert "leave one of them out" in refused(*asked, "--system", "Be kind.", "--raw")


def test_a_template_without_a_place_is_refused_before_training(command, refused, small, talks, tmp_path):
    where = ["--data", talks, "--out", tmp_path / "run", *small, "--max-length", "300", "--quiet"]
    told = refused("train", *where)
    assert "begins with a turn of the system: the prompt template 'alpaca' has no place" in told
    assert "--prompt-template chatml" in told
    outcome = command("train", *where, "--skip-bad")
    assert outcome.status == 0, outcome.err
    skipped = json.loads((tmp_path / "run" / "run.json").read_text())["skipped"]
    assert len(skipped) == 6
    for asked in (("chat", "--system", "Be kind."), ("generate", "--system", "Be kind.", "Why?")):
        assert "'alpaca' has no place" in refused(asked[0], "--adapter", tmp_path / "run", *asked[1:])
