"""``mm-adapter score``: the official figures of any file of predictions."""

import json

import pytest


@pytest.fixture
def predictions(demo_folder, tmp_path):
    """A right answer for every test question, in the official format."""
    problems = json.loads((demo_folder / "problems.json").read_text())
    pids = json.loads((demo_folder / "pid_splits.json").read_text())["test"]
    return {pid: problems[pid]["answer"] for pid in pids}


@pytest.fixture
def score(command, demo_folder, tmp_path):
    def run(results, *options):
        path = tmp_path / "results.json"
        path.write_text(results if isinstance(results, str) else json.dumps({"results": results}))
        return command(
            "score", "--predictions", path, "--data", demo_folder, "--json", tmp_path / "scored.json", *options
        )

    return run


def test_published_predictions_give_the_published_figures(command, shared, tmp_path):
    """GPT-3's answers on all of ScienceQA's test: every value of the official evaluator."""
    folder = shared / "parity" / "scienceqa_eval"
    out = tmp_path / "scored.json"
    arguments = ["--predictions", folder / "predictions_gpt3.json", "--data", folder, "--split", "test", "--json", out]
    outcome = command("score", *arguments)
    assert outcome.status == 0
    expected = json.loads((folder / "expected_gpt3.json").read_text())
    expected = expected.get("official", expected)
    official = json.loads(out.read_text())["official"]
    assert {key: official.get(key) for key in expected} == expected
    assert f"{expected['acc_average']:.2f}" in outcome.out


def test_all_right_and_unread(score, predictions, tmp_path):
    """All right is 100; -1 is wrong and counted, not an error."""
    assert score(predictions).status == 0
    assert json.loads((tmp_path / "scored.json").read_text())["official"]["acc_average"] == 100.0
    first = next(iter(predictions))
    outcome = score({**predictions, first: -1})
    scored = json.loads((tmp_path / "scored.json").read_text())
    assert scored["official"]["acc_average"] == round(100 * 8 / 9, 2)
    assert scored["unparseable"] == 1
    assert "1 answers could not be read; they count as wrong." in outcome.out


@pytest.mark.parametrize("fault", ["missing", "unknown", "option", "type", "json", "empty"])
def test_predictions_that_do_not_fit(score, predictions, tmp_path, fault):
    """A question without answer, one too many, an option that is not there: named, exit 2, nothing written."""
    first = next(iter(predictions))
    results, said = {
        "missing": ({pid: choice for pid, choice in predictions.items() if pid != first}, "have no prediction"),
        "unknown": ({**predictions, "nobody": 0}, "'nobody'"),
        "option": ({**predictions, first: 9}, "option 9 is chosen"),
        "type": ({**predictions, first: "A"}, "the choice of question"),
        "json": ('{"results": {', "not JSON"),
        "empty": ("", "is empty"),
    }[fault]
    outcome = score(results)
    assert outcome.status == 2
    assert outcome.err.count("\n") == 1
    assert said in outcome.err
    assert "results.json" in outcome.err
    if fault in ("missing", "option", "type"):
        assert f"'{first}'" in outcome.err
    assert not (tmp_path / "scored.json").exists()
    assert outcome.out == ""


def test_figures_that_cannot_be_written(score, predictions, tmp_path):
    """A folder in the place of --json is said with its path."""
    (tmp_path / "scored.json").mkdir()
    outcome = score(predictions)
    assert outcome.status == 2
    assert "scored.json: cannot be written" in outcome.err
