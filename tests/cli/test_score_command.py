"""``mm-adapter score``: the official figures of any file of predictions."""

import json
import subprocess
import sys

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


@pytest.fixture
def two_systems(demo_folder, predictions, tmp_path):
    """A right system with probabilities, and one that always answers the first option."""
    from mm_adapter.eval.predictions import Prediction, write_predictions

    problems = json.loads((demo_folder / "problems.json").read_text())
    sure = []
    for pid, choice in predictions.items():
        options = len(problems[pid]["choices"])
        shares = tuple(0.7 if index == choice else 0.3 / (options - 1) for index in range(options))
        sure.append(Prediction(pid, choice, (), shares))
    write_predictions(tmp_path / "right.jsonl", sure)
    write_predictions(tmp_path / "first.jsonl", [Prediction(pid, 0) for pid in predictions])
    return tmp_path / "right.jsonl", tmp_path / "first.jsonl"


def test_two_systems_are_compared(command, demo_folder, two_systems, tmp_path):
    """Intervals, the comparison and its verdicts, agreement, calibration, what both miss; the files say the same."""
    out = tmp_path / "scores"
    arguments = ["--predictions", *two_systems, "--data", demo_folder, "--by", "subject*context", "--out", out]
    outcome = command("score", *arguments)
    assert outcome.status == 0, outcome.err
    for said in (
        "95 % from",
        "first - right",
        "p, Holm",
        "kappa of being right",
        "expected error",
        "are missed by all 2",
    ):
        assert said in outcome.out
    found = json.loads((out / "scores.json").read_text())
    assert set(found["systems"]) == {"right", "first"}
    assert found["systems"]["right"]["calibration"]["expected_error"] == pytest.approx(0.3)
    assert found["systems"]["first"]["calibration"] is None
    average = next(row for row in found["comparisons"] if row["cell"] == "Avg")
    assert average["only_second"] == 0
    assert average["difference"] == pytest.approx(found["systems"]["first"]["official"]["acc_average"] - 100, abs=0.01)
    assert "| first - right | Avg |" in (out / "scores.md").read_text()
    assert (out / "scores.csv").read_text().count("95 % from") == 2


def test_intervals_by_skill_are_seeded(command, demo_folder, two_systems, tmp_path):
    """The bootstrap over skills gives the same interval for the same seed."""
    rows = []
    for seed in (1, 1, 2):
        path = tmp_path / f"{seed}.json"
        arguments = ["--data", demo_folder, "--interval", "skill", "--seed", seed, "--json", path]
        assert command("score", "--predictions", two_systems[1], *arguments).status == 0
        rows.append(json.loads(path.read_text())["intervals"]["Avg"]["interval"])
    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--by", "subjects"], "did you mean 'subject'"),
        (["--name", "one"], "1 names for 2 files"),
        (["--name", "one", "one"], "gives a name twice"),
        (["--split", "val"], "of them in split 'test'"),
        (["--missing", "ignore"], "'ignore' is not known"),
    ],
)
def test_what_cannot_be_compared_is_said(command, demo_folder, two_systems, options, said):
    outcome = command("score", "--predictions", *two_systems, "--data", demo_folder, *options)
    assert outcome.status == 2
    assert said in outcome.err
    assert outcome.err.count("\n") == 1


def test_a_subset_is_called_one(score, predictions):
    """Missing answers are an error, wrong, or left out: said each time."""
    rest = list(predictions)[1:]
    few = {pid: predictions[pid] for pid in rest}
    wrong = score(few, "--missing", "wrong")
    assert wrong.status == 0
    assert "1 of 9 questions have no prediction; they count as wrong" in wrong.out
    assert f"{100 * 8 / 9:.2f}" in wrong.out
    left = score(few, "--missing", "leave-out")
    assert left.status == 0
    assert "A subset: 1 of 9" in left.out
    assert "100.00" in left.out


def test_scoring_needs_no_torch(shared):
    """A second and not three: who scores predictions loads no deep-learning library."""
    folder = shared / "parity" / "scienceqa_eval"
    program = (
        "import sys; from mm_adapter.cli import main; "
        f"folder = {str(folder)!r}; "
        "code = main(['score', '--predictions', folder + '/predictions_gpt3.json', '--data', folder]); "
        "sys.exit(code or 3 * ('torch' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "75.48" in done.stdout


def test_names_that_meet_are_told_apart(demo_folder, predictions, tmp_path):
    """run, "run 2" and another run are three systems."""
    from mm_adapter.data.readers import read_dataset
    from mm_adapter.eval.predictions import Prediction, write_predictions
    from mm_adapter.eval.scores import read_systems, score
    from mm_adapter.eval.system import Reading

    paths = [tmp_path / "run.jsonl", tmp_path / "run 2.jsonl", tmp_path / "x" / "run.jsonl"]
    for path in paths:
        write_predictions(path, [Prediction(pid, 0) for pid in predictions])
    systems = read_systems(paths, read_dataset(str(demo_folder)), "test", Reading())
    assert [system.name for system in systems] == ["run", "run 2", "run 3"]
    assert len(score(systems).comparisons) == 3


def test_half_a_surrogate_pair_can_be_written(score, predictions, tmp_path):
    """Models write such things; JSON carries them, UTF-8 does not."""
    lines = [json.dumps({"pid": pid, "choice": -1, "raw_text": "\ud800 x"}) for pid in predictions]
    assert score("\n".join(lines), "--out", tmp_path / "out").status == 0
    assert json.loads((tmp_path / "scored.json").read_text())["unreadable"][0]["raw_text"] == "\ud800 x"


def test_a_seed_is_no_negative_number(score, predictions):
    outcome = score(predictions, "--seed", "-1")
    assert outcome.status == 2
    assert "--seed is -1; it must be at least 0" in outcome.err


def test_written_answers_and_whose_rules_read_them(command, demo_folder, tmp_path):
    """A workbook as VLMEvalKit writes it: both figures are printed where they differ, and every rule is counted."""
    problems = json.loads((demo_folder / "problems.json").read_text())
    pids = json.loads((demo_folder / "pid_splits.json").read_text())["test"]
    texts = ["\\boxed{{{}}}", "<answer>{}</answer>", "<think>The answer is {}."]
    rows = []
    for place, pid in enumerate(pids):
        problem = problems[pid]
        answer = "ABCDE"[problem["answer"]]
        options = dict(zip("ABCDE", problem["choices"], strict=False))
        text = texts[min(place, 2)].format(answer)
        rows.append({"index": pid, "question": problem["question"], **options, "answer": answer, "prediction": text})
    path, out = tmp_path / "model_ScienceQA_TEST.xlsx", tmp_path / "scored.json"
    pandas = pytest.importorskip("pandas")
    pandas.DataFrame(rows).to_excel(path, index=False)
    outcome = command("score", "--predictions", path, "--data", demo_folder, "--json", out)
    assert outcome.status == 0, outcome.err
    scored = json.loads(out.read_text())
    assert scored["rules"] == {"boxed": 1, "answer tag": 1, "unread": len(pids) - 2}
    assert scored["unparseable"] == len(pids) - 2
    assert scored["source_reading"]["tool"] == "VLMEvalKit"
    assert f"By VLMEvalKit's own rules {len(pids) - 1} of {len(pids)} are right" in outcome.out
