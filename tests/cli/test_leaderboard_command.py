"""``mm-adapter leaderboard``: 109 published rows, verified runs beside them, and nothing that does not belong there."""

import json
import random

import pytest

from mm_adapter.core.errors import UserError
from mm_adapter.data.readers import read_dataset
from mm_adapter.eval.leaderboard.published import official_pids, published_rows
from mm_adapter.eval.leaderboard.submission import answers_digest
from mm_adapter.eval.predictions import Prediction, write_predictions

SUBJECTS = ("natural science", "social science", "language science")


def make_problem(number, pid):
    return {
        "question": f"What is {pid}?",
        "choices": ["one", "two", "three"],
        "answer": number % 3,
        "hint": "A hint." if number % 2 else "",
        "image": None,
        "task": "closed choice",
        "grade": f"grade{number % 12 + 1}",
        "subject": SUBJECTS[number % 3],
        "topic": "physics",
        "category": "Things",
        "skill": f"Skill {number % 100}",
        "lecture": "",
        "solution": "",
        "split": "test",
    }


@pytest.fixture
def official_data(tmp_path):
    """Invented questions under the official test split's ids."""
    folder = tmp_path / "scienceqa"
    folder.mkdir()
    problems = {pid: make_problem(number, pid) for number, pid in enumerate(official_pids())}
    (folder / "problems.json").write_text(json.dumps(problems))
    (folder / "pid_splits.json").write_text(json.dumps({"train": [], "val": [], "test": list(official_pids())}))
    return folder


@pytest.fixture
def make_run(tmp_path, official_data):
    """Return a function that leaves what ``evaluate`` leaves: right with a given probability, on some of the pids."""
    questions = read_dataset(str(official_data)).split("test")

    def make(name, accuracy, seed=0, pids=None, **record):
        folder = tmp_path / name
        folder.mkdir()
        generator = random.Random(seed)
        answers = []
        for question in questions:
            right = generator.random() < accuracy
            answers.append(Prediction(question.pid, question.answer if right else (question.answer + 1) % 3))
        kept = [answer for answer in answers if pids is None or answer.pid in pids]
        write_predictions(folder / "predictions.jsonl", kept)
        facts = {"split": "test", "answers_sha256": answers_digest(questions), "images": "real", **record}
        facts.setdefault("tuned_parameters", 1_800_000)
        (folder / "evaluation.json").write_text(json.dumps(facts))
        return folder

    return make


def test_all_published_rows_have_sources(shared, command, tmp_path):
    """109 rows with source and date, the same facts as the source file, ranked by average."""
    rows = published_rows()
    assert len(rows) == 109
    assert len(official_pids()) == len(set(official_pids())) == 4241
    assert rows == published_rows(shared / "leaderboard" / "scienceqa_published.csv")
    assert tuple((shared / "leaderboard" / "official_test_pids.txt").read_text().split()) == official_pids()
    assert all(row.source.startswith("https://") and row.date for row in rows)
    outcome = command("leaderboard", "--board", tmp_path / "none.jsonl", "--out", tmp_path / "out")
    assert outcome.status == 0, outcome.err
    assert "109 of 109 rows" in outcome.out
    ours = next(line for line in outcome.out.splitlines() if "LLaMA-Adapter " in line)
    assert ours.split()[0] == "29"
    assert "85.19" in ours
    assert "1.2M" in ours
    found = json.loads((tmp_path / "out" / "leaderboard.json").read_text())["rows"]
    assert len(found) == 109
    assert (tmp_path / "out" / "leaderboard.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "out" / "leaderboard.csv").read_text().count("\n") == 110
    assert (tmp_path / "out" / "leaderboard.md").read_text().count("\n| ") == 111


def test_a_run_is_added_and_ranked(command, official_data, make_run, tmp_path):
    """Its interval, its own count of parameters, and a verdict against every row that a test supports."""
    board = tmp_path / "board.jsonl"
    outcome = command("leaderboard", "add", make_run("mine", 0.86), "--data", official_data, "--board", board)
    assert outcome.status == 0, outcome.err
    assert "added mine, 86" in outcome.out or "added mine, 85" in outcome.out
    outcome = command("leaderboard", "--board", board, "--out", tmp_path / "out", "--classes")
    assert outcome.status == 0, outcome.err
    rows = json.loads((tmp_path / "out" / "leaderboard.json").read_text())["rows"]
    assert len(rows) == 110
    mine = next(row for row in rows if row["is_run"])
    assert mine["tuned"] == 1_800_000
    assert mine["interval"][0] < mine["accuracies"]["Avg"] < mine["interval"][1]
    assert mine["rank"] == 1 + sum(
        (row["accuracies"]["Avg"] or 0) > mine["accuracies"]["Avg"] for row in rows if row["method"]
    )
    verdicts = {row["model"]: row["verdicts"].get("mine") for row in rows}
    assert verdicts["Mutimodal-T-SciQ_Large"] == "worse"
    assert verdicts["LLaMA-Adapter"] == "not decided"
    assert verdicts["UnifiedQA"] == "better"
    assert verdicts["MMICL"] is None, "no average was published, so there is nothing to compare"
    assert "mine is" in outcome.out


def test_two_runs_are_compared_by_their_answers(command, official_data, make_run, tmp_path):
    """A difference that Fisher's test would miss is found, since the same questions were answered."""
    board = tmp_path / "board.jsonl"
    first, second = make_run("first", 0.85), make_run("second", 0.875)
    for run in (first, second):
        assert command("leaderboard", "add", run, "--data", official_data, "--board", board).status == 0
    assert command("leaderboard", "--board", board, "--out", tmp_path / "out").status == 0
    rows = {row["model"]: row for row in json.loads((tmp_path / "out" / "leaderboard.json").read_text())["rows"]}
    assert rows["first"]["verdicts"]["second"] == "better"
    assert rows["second"]["verdicts"]["first"] == "worse"


def test_both_figures_where_the_source_tool_reads_otherwise(command, official_data, tmp_path):
    """LLaVA's rules read no bold letter: a run of such answers is told with both figures, shown or added."""
    questions = read_dataset(str(official_data)).split("test")
    forms = ["The answer is {}.", "**{}**"]
    lines = [
        {"question_id": question.pid, "text": forms[place % 2].format("ABC"[question.answer])}
        for place, question in enumerate(questions)
    ]
    path = tmp_path / "bold.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = "bold: By LLaVA's own rules 2121 of 4241 are right (50.01 %), by ours 4241 (100.00 %)"
    where = ["--data", official_data, "--board", tmp_path / "board.jsonl"]
    shown = command("leaderboard", "--runs", path, *where, "--out", tmp_path / "out", "--limit", 3)
    assert shown.status == 0, shown.err
    assert told in shown.out
    assert told in json.loads((tmp_path / "out" / "leaderboard.json").read_text())["notes"][0]
    assert "By LLaVA's own rules" in (tmp_path / "out" / "leaderboard.md").read_text()
    added = command("leaderboard", "add", path, *where)
    assert added.status == 0, added.err
    assert told in added.out
    assert "own rules" not in command("leaderboard", "--board", tmp_path / "board.jsonl").out


def tampered(official_data):
    problems = json.loads((official_data / "problems.json").read_text())
    problems["4"]["answer"] = (problems["4"]["answer"] + 1) % 3
    (official_data / "problems.json").write_text(json.dumps(problems))


@pytest.mark.parametrize(
    "fault", ["subset", "tampered", "twice", "same answers", "duplicate pid", "no data", "link", "date"]
)
def test_what_may_not_be_added(command, official_data, make_run, tmp_path, fault):
    """One message, exit 2, and the board is as it was."""
    board = tmp_path / "board.jsonl"
    run = make_run("mine", 0.8)
    add = ["leaderboard", "add", run, "--data", official_data, "--board", board]
    said = ""
    if fault == "subset":
        add[2] = make_run("part", 0.8, pids=set(official_pids()[:4000]))
        said = "241 of its 4241 questions are missing"
    elif fault == "tampered":
        tampered(official_data)
        said = "have changed since the run"
    elif fault in ("twice", "same answers"):
        assert command(*add).status == 0
        add += ["--name", "other"] if fault == "same answers" else []
        said = "a duplicate" if fault == "same answers" else "'mine' is there already"
    elif fault == "duplicate pid":
        lines = (run / "predictions.jsonl").read_text().splitlines()
        (run / "predictions.jsonl").write_text("\n".join([*lines, lines[0].replace('"choice": ', '"choice": 1')]))
        said = "'4' is predicted twice"
    elif fault == "no data":
        del add[3:5]
        said = "needs --data"
    else:
        add += {"link": ["--link", "javascript:alert(1)"], "date": ["--date", "yesterday"]}[fault]
        said = {"link": "is no web address", "date": "is no date"}[fault]
    before = board.read_bytes() if board.exists() else None
    outcome = command(*add)
    assert outcome.status == 2
    assert said in outcome.err
    assert outcome.err.count("\n") == 1
    assert (board.read_bytes() if board.exists() else None) == before


def test_runs_on_other_questions_stand_apart(command, demo_folder, tmp_path):
    """A run on another dataset is shown with its reason, and has no rank."""
    pids = json.loads((demo_folder / "pid_splits.json").read_text())["test"]
    write_predictions(tmp_path / "demo.jsonl", [Prediction(pid, 0) for pid in pids])
    where = ["--runs", tmp_path / "demo.jsonl", "--data", demo_folder, "--board", tmp_path / "none"]
    outcome = command("leaderboard", *where, "--limit", 1)
    assert outcome.status == 0, outcome.err
    assert "1 of 109 rows" in outcome.out
    assert "not the official test split (4239 of its 4241 questions are missing" in " ".join(outcome.out.split())
    add = ["add", tmp_path / "demo.jsonl", "--data", demo_folder, "--board", tmp_path / "none"]
    outcome = command("leaderboard", *add)
    assert outcome.status == 2
    assert "cannot be added" in outcome.err


@pytest.mark.parametrize(
    ("options", "first", "count"),
    [
        (["--sort", "IMG"], "Mutimodal-T-SciQ_Large", 109),
        (["--sort", "tuned", "--learning", "fine-tune"], "LLaMA-Adapter", None),
        (["--sort", "model", "--filter", "llama", "adapter"], "LLaMA-Adapter", 2),
        (["--sort", "date", "--filter", "lavin"], "LaVIN-13B", 4),
    ],
)
def test_sorting_and_filtering(command, tmp_path, options, first, count):
    outcome = command("leaderboard", "--board", tmp_path / "none", *options)
    assert outcome.status == 0, outcome.err
    assert first in outcome.out.splitlines()[1]
    if count is not None:
        assert f"{count} of 109 rows" in outcome.out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--sort", "average"], "is not known"),
        (["remove", "x"], "there is `leaderboard` and `leaderboard add RUN`"),
        (["--runs", "x"], "--runs needs --data"),
    ],
)
def test_mistaken_options(command, tmp_path, options, said):
    outcome = command("leaderboard", *options, "--board", tmp_path / "none")
    assert outcome.status == 2
    assert said in outcome.err


HEADER = "model,method,learning,size,tuned_params,source,date,NAT,SOC,LAN,TXT,IMG,NO,G1-6,G7-12,Avg\n"
GOOD = "M,VLM,Fine-tune,7B,1M,https://a.b/c,2024-01-01,-,-,-,-,-,-,-,-,80\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEADER + GOOD.replace("https://a.b/c", "-"), "line 2: 'M' has no source"),
        (HEADER + GOOD.replace("https://a.b/c", "javascript:x"), "line 2: 'M' has no source"),
        (HEADER + GOOD.replace("2024-01-01", "2024"), "has the date '2024'"),
        (HEADER + GOOD.replace(",80", ",180"), "Avg is '180'"),
        (HEADER + GOOD.replace(",80", ",-"), "no accuracy in any column"),
        (HEADER + GOOD.replace("1M", "many"), "'MANY'|'many' is not a number of parameters"),
        (HEADER + GOOD.replace("M,VLM", ",VLM"), "has no model"),
        (GOOD, "the column 'model' is missing"),
    ],
)
def test_published_row_that_is_not_sound(tmp_path, text, said):
    """Facts without a source, or no facts, are named by their line."""
    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        published_rows(path)


def test_a_board_that_was_edited_is_refused(command, official_data, make_run, tmp_path):
    """An average that the entry's own answers do not give."""
    board = tmp_path / "board.jsonl"
    assert command("leaderboard", "add", make_run("mine", 0.5), "--data", official_data, "--board", board).status == 0
    entry = json.loads(board.read_text())
    entry["accuracies"]["Avg"] = 99.0
    board.write_text(json.dumps(entry))
    outcome = command("leaderboard", "--board", board)
    assert outcome.status == 2
    assert "says 99.0 %, but its answers give" in outcome.err


@pytest.mark.parametrize(
    "forged",
    [
        {"split": ["test"]},
        {"tuned_parameters": 10**400},
        {"tuned_parameters": True},
        {"answers_sha256": None},
        {"images": 1},
    ],
)
def test_a_forged_record_is_refused(command, official_data, make_run, tmp_path, forged):
    """A record of an evaluation with a value of the wrong kind, or without a digest, is no record."""
    run = make_run("mine", 0.8, **forged)
    outcome = command("leaderboard", "add", run, "--data", official_data, "--board", tmp_path / "board")
    assert outcome.status == 2
    assert "no record of an evaluation, or it is damaged" in outcome.err
    (run / "evaluation.json").write_text("{}")
    assert command("leaderboard", "add", run, "--data", official_data, "--board", tmp_path / "board").status == 2


def test_what_nothing_verifies_is_called_that(command, official_data, make_run, tmp_path):
    """A bare file of predictions does not say which answers it was made for: the table says so."""
    run, board = make_run("mine", 0.8), tmp_path / "board"
    file = run / "predictions.jsonl"
    added = command("leaderboard", "add", file, "--data", official_data, "--board", board, "--name", "bare")
    assert added.status == 0, added.err
    assert "they are not verified" in added.out
    assert "bare (run, answers not verified)" in command("leaderboard", "--board", board).out


def test_runs_with_other_pictures_stand_apart(command, official_data, make_run, tmp_path):
    """A run that was shown other pictures than its questions' is no result."""
    run = make_run("mine", 0.8, images="shuffled")
    outcome = command("leaderboard", "--runs", run, "--data", official_data, "--board", tmp_path / "none")
    assert outcome.status == 0
    assert "its pictures were shuffled" in outcome.out


def test_runs_of_one_name(command, official_data, make_run, tmp_path):
    """Folders of one name are told apart; a run that the board holds already stands there once."""
    first, second = make_run("a", 0.7, seed=1), make_run("b", 0.9, seed=2)
    for run in (first, second):
        (run / "test").mkdir()
        for name in ("predictions.jsonl", "evaluation.json"):
            (run / name).rename(run / "test" / name)
    board = tmp_path / "board"
    assert command("leaderboard", "add", first / "test", "--data", official_data, "--board", board).status == 0
    runs = ["--runs", first / "test", second / "test", "--data", official_data]
    outcome = command("leaderboard", "--board", board, *runs, "--out", tmp_path / "out")
    assert outcome.status == 0, outcome.err
    rows = json.loads((tmp_path / "out" / "leaderboard.json").read_text())["rows"]
    assert sorted(row["model"] for row in rows if row["is_run"]) == ["a", "b"]
    assert {row["model"]: row["verdicts"] for row in rows if row["is_run"]} == {
        "a": {"b": "better"},
        "b": {"a": "worse"},
    }


def test_a_selection_without_parameters_can_be_written(command, tmp_path):
    """A plot without a point is still a plot; an empty board is one."""
    (tmp_path / "board").write_text("")
    outcome = command("leaderboard", "--filter", "Human", "--out", tmp_path / "out", "--board", tmp_path / "board")
    assert outcome.status == 0, outcome.err
    assert (tmp_path / "out" / "leaderboard.png").is_file()


@pytest.mark.parametrize(
    "change",
    [
        {"tuned": 10**400},
        {"source": "javascript:x"},
        {"date": "soon"},
        {"accuracies": {"NAT": 10**400}},
        {"recorded": 1},
    ],
)
def test_an_edited_line_of_a_board(command, official_data, make_run, tmp_path, change):
    board = tmp_path / "board"
    assert command("leaderboard", "add", make_run("mine", 0.5), "--data", official_data, "--board", board).status == 0
    entry = json.loads(board.read_text())
    accuracies = {**entry["accuracies"], **change.get("accuracies", {})}
    board.write_text(json.dumps({**entry, **change, "accuracies": accuracies}))
    outcome = command("leaderboard", "--board", board)
    assert outcome.status == 2
    assert "has a value that no entry has" in outcome.err
