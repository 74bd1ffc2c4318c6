"""A table of pictures and choices is a dataset like any other: every command takes it, in every form the same."""

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import datasets
import pytest
from table_forms import FORMS, ROWS, cells, png


@pytest.fixture(autouse=True)
def own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One feature store for the runs of this file, whose tower looks otherwise than that of others."""
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    """What the first form gave, for the others to be held against."""
    return {}


def numbers(path: Path) -> list[list[float]]:
    return [json.loads(line)["scores"] for line in path.read_text().splitlines()]


@pytest.mark.parametrize("write", FORMS, ids=lambda form: form.__name__)
def test_all_commands_take_a_table_in_every_form(
    command: Callable[..., Any],
    tmp_path: Path,
    tiny_folder: Path,
    store: Path,
    figures: dict[str, Any],
    write: Callable[[Path], str],
) -> None:
    """Train by options, evaluate, score, report and probe; the same figures whichever form the table is in."""
    (tmp_path / "table").mkdir()
    data, run, out = write(tmp_path / "table"), tmp_path / "run", tmp_path / "out"
    sizes = ["--layers", "2", "--prompt-length", "3", "--epochs", "2", "--warmup-epochs", "0", "--batch-size", "4"]
    model = ["--llama", str(tiny_folder), "--vision", "efficientnet-lite0", "--depths", "0", "--base-lr", "0.5"]
    kept = ["--features", str(store), "--quiet"]
    table = ["--data", data, "--val-share", "0.25"]
    trained = command("train", *table, "--out", run, *model, *sizes, *kept)
    assert trained.status == 0, trained.err
    assert "table: 12 questions, 6 with a picture, 3 options each, answers by" in trained.err
    split = ["--split", "all"]
    evaluated = command("evaluate", "--adapter", run, "--data", data, *split, "--out", out, *kept)
    assert evaluated.status == 0, evaluated.err
    predictions = out / "predictions.jsonl"
    scored = command("score", "--predictions", predictions, "--data", data, *split, "--json", tmp_path / "scores.json")
    assert scored.status == 0, scored.err
    page = tmp_path / "report"
    assert command("report", out, "--data", data, *split, "--out", page).status == 0
    assert "Which, 3?" in (page / "report.html").read_text()
    probing = ["--probes", "none", "rotations", "--out", tmp_path / "probes"]
    probed = command("probe", "--adapter", run, "--data", data, *split, *probing, *kept)
    assert probed.status == 0, probed.err
    metrics = json.loads((out / "metrics.json").read_text())
    assert 0 <= metrics["official"]["acc_average"] <= 100
    found = {
        "val": json.loads((run / "run.json").read_text())["best_val_loss"],
        "scores": numbers(predictions),
        "accuracy": metrics["official"],
        "probes": numbers(tmp_path / "probes" / "predictions-none.jsonl"),
    }
    assert len(found["scores"]) == len(ROWS)
    assert found["scores"] != found["probes"], "the pictures are seen"
    first = figures.setdefault("first", found)
    assert found == first


def test_what_a_run_was_trained_on_is_not_evaluated_as_new(
    command: Callable[..., Any], refused: Callable[..., str], tmp_path: Path, small: list[str]
) -> None:
    """One file has no test split; without a split the part that the run held out is taken, and it is said."""
    cells(tmp_path / "t.csv", ROWS)
    where = ["--data", tmp_path / "t.csv"]
    assert command("train", *where, "--val-share", "0.25", "--out", tmp_path / "run", *small).status == 0
    asked = ["evaluate", "--adapter", tmp_path / "run", *where, "--out", tmp_path / "out", "--quiet"]
    assert "there is no split 'test'" in refused(*asked, "--split", "test")
    done = command(*asked)
    assert "the part that it held out is evaluated" in done.err
    assert len((tmp_path / "out" / "predictions.jsonl").read_text().splitlines()) == 3


def test_settings_of_the_other_task_are_refused(refused: Callable[..., str], tmp_path: Path, small: list[str]) -> None:
    """A template of questions says nothing about conversations, and is not taken without a word."""
    cells(tmp_path / "q.csv", ROWS)
    cells(tmp_path / "c.csv", [{"question": "q?", "answer": str(i)} for i in range(4)])
    out = ["--out", tmp_path / "run", *small]
    assert "--template is a setting of questions" in refused(
        "train", "--data", tmp_path / "c.csv", "--template", "QCM-A", *out
    )
    assert "--prompt-template is a setting of conversations" in refused(
        "train", "--data", tmp_path / "q.csv", "--prompt-template", "alpaca", *out
    )


def test_one_bad_row_of_many_is_left_out_by_name(
    command: Callable[..., Any], refused: Callable[..., str], tmp_path: Path, tiny_folder: Path, store: Path
) -> None:
    """Of conversations too: a picture that is missing, and one that cannot be opened."""
    for name in ("a.png", "c.png"):
        (tmp_path / name).write_bytes(png("red"))
    (tmp_path / "cut.png").write_bytes(png("red")[:30])
    names = ("a.png", "missing.png", "cut.png", "c.png", "a.png", "c.png")
    cells(tmp_path / "t.csv", [{"id": n, "image": n, "question": f"q{i}?", "answer": "x"} for i, n in enumerate(names)])
    run = ["train", "--data", tmp_path / "t.csv", "--out", tmp_path / "run", "--llama", tiny_folder, "--layers", "2"]
    more = ["--vision", "efficientnet-lite0", "--features", store, "--quiet", "--epochs", "1"]
    assert "names a picture that is missing" in refused(*run, *more)
    done = command(*run, *more, "--skip-bad")
    assert done.status == 0, done.err
    skipped = json.loads((tmp_path / "run" / "run.json").read_text())["skipped"]
    assert set(skipped) == {"line 3", "line 4"}
    counted = command(
        "features", "--vision", "efficientnet-lite0", "--data", tmp_path / "t.csv", "--out", store, "--skip-bad"
    )
    assert "2 pictures skipped" in counted.out
    assert "skipped line 3: names a picture that is missing" in counted.out


def test_open_answers_are_written_and_scored(command: Callable[..., Any], tmp_path: Path, small: list[str]) -> None:
    """What the model wrote stands beside the answers of all annotators."""
    rows = [{"question": f"How many, {i}?", "answers": json.dumps(["2", "two", "2"])} for i in range(8)]
    for split in ("train", "val", "test"):
        cells(tmp_path / f"{split}.csv", rows)
    assert command("train", "--data", tmp_path, "--out", tmp_path / "run", *small).status == 0
    asked = ["evaluate", "--adapter", tmp_path / "run", "--data", tmp_path, "--out", tmp_path / "out", "--quiet"]
    done = command(*asked, "--max-new-tokens", "5")
    assert done.status == 0, done.err
    lines = [json.loads(line) for line in (tmp_path / "out" / "responses.jsonl").read_text().splitlines()]
    assert len(lines) == 8
    assert lines[0]["references"] == ["2", "two", "2"]
    assert set(lines[0]) >= {"response", "exact_match", "vqa_accuracy", "rouge_l"}
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert set(metrics["open_answers"]) >= {"exact_match", "vqa_accuracy", "bleu_1", "bleu_4", "rouge_l"}


class _Pictures(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/a.png" else 404)
        self.end_headers()
        if self.path == "/a.png":
            self.wfile.write(png("red"))

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def test_pictures_by_url_are_fetched_only_where_the_user_allows(
    command: Callable[..., Any], refused: Callable[..., str], tmp_path: Path
) -> None:
    """Refused by default, with the option named; a missing one is named."""
    server = HTTPServer(("127.0.0.1", 0), _Pictures)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        place = f"http://127.0.0.1:{server.server_port}"
        rows = [{"image_url": f"{place}/{name}", "question": "q?", "answer": "x"} for name in ("a.png", "b.png")]
        cells(tmp_path / "one.csv", rows[:1])
        cells(tmp_path / "two.csv", rows)
        store = ["--vision", "efficientnet-lite0", "--out", tmp_path / "store"]
        assert "--allow-urls downloads pictures" in refused("features", "--data", tmp_path / "one.csv", *store)
        assert command("features", "--data", tmp_path / "one.csv", *store, "--allow-urls").status == 0
        assert "cannot be downloaded" in refused("features", "--data", tmp_path / "two.csv", *store, "--allow-urls")
    finally:
        server.shutdown()
        server.server_close()
