"""A report's page works in a browser, needs nothing else, and takes text from anywhere as text."""

import json
import re
from pathlib import Path

import check_report
import pytest
from PIL import Image

from mm_adapter.cli import main
from mm_adapter.data.question import Question
from mm_adapter.eval.page.browser import browser_data
from mm_adapter.eval.page.report_files import report
from mm_adapter.eval.page.thumbnails import thumbnails
from mm_adapter.eval.predictions import Prediction, write_predictions
from mm_adapter.eval.system import Reading, make_system

HOSTILE = "</script><script>window.hacked = 1; alert(1)</script><img src=x onerror='window.hacked = 2'>"
FORMULA = "=cmd|' /C calc'!A0"
BACKWARDS = "\u202egnp.exe \u2066\x1b[31mred\x1b]0;title\x07"


@pytest.fixture(scope="session")
def browser() -> str:
    """The path of Chromium."""
    pytest.importorskip("playwright", reason="the browser is driven by playwright: pip install 'mm-adapter[test]'")
    pytest.importorskip(
        "axe_playwright_python", reason="accessibility is checked by axe: pip install 'mm-adapter[test]'"
    )
    found = check_report.find_browser()
    if found is None:
        pytest.skip("there is no Chromium here: install Debian's package chromium")
    return found


@pytest.mark.slow
def test_page_in_a_browser(browser: str, tmp_path: Path) -> None:
    """Sorts, filters, shows pictures, leaves the page for nothing, fits its width, suits everyone, light and dark."""
    found = check_report.check_page(check_report.make_report(tmp_path), browser, tmp_path / "shots")
    assert all(not problems for problems in found.values()), found
    assert len(list((tmp_path / "shots").iterdir())) == 4


@pytest.mark.slow
def test_the_check_finds_what_is_wrong(browser: str, tmp_path: Path) -> None:
    """A page that asks the network, cannot be read and does not sort is told as such: the check is no formality."""
    page = check_report.make_report(tmp_path)
    text = page.read_text()
    text = re.sub(r"<meta http-equiv=.Content-Security-Policy.*?>", "", text)
    text = (
        text.replace("--faint: #5a5f66", "--faint: #dddddd")
        .replace("table.append", "void")
        .replace("table.tBodies[0].append(...rows)", "void 0")
    )
    page.write_text(text.replace("</main>", '<img src="http://127.0.0.1:9/x.png"></main>'))
    found = check_report.check_page(page, browser, widths=[1400])
    assert any("127.0.0.1" in problem for problem in found["console errors and requests"])
    assert any("color-contrast" in problem for problem in found["accessibility"])
    assert any("image-alt" in problem for problem in found["accessibility"])
    assert found["sorting"]


@pytest.fixture
def hostile_data(tmp_path: Path) -> Path:
    """A dataset whose every text is an attack, one of them a megabyte long."""
    folder = tmp_path / "data"
    problems = {
        pid: {
            "question": text,
            "choices": [text[:500], FORMULA, BACKWARDS],
            "answer": 0,
            "hint": text,
            "image": None,
            "task": "closed choice",
            "grade": "grade2",
            "subject": "natural science",
            "topic": HOSTILE,
            "category": FORMULA,
            "skill": BACKWARDS,
            "lecture": "",
            "solution": text,
            "split": "test",
        }
        for pid, text in {"1": HOSTILE, "2": FORMULA, "3": BACKWARDS, "4": HOSTILE * 10_000}.items()
    }
    folder.mkdir()
    (folder / "problems.json").write_text(json.dumps(problems))
    (folder / "pid_splits.json").write_text(json.dumps({"train": [], "val": [], "test": list(problems)}))
    write_predictions(
        folder / "answers.jsonl",
        [
            Prediction(
                pid, -1 if pid == "2" else 0, (), () if pid == "2" else (0.5, 0.25, 0.25), HOSTILE, HOSTILE, HOSTILE
            )
            for pid in problems
        ],
    )
    return folder


def hostile_commands(data: Path, out: Path) -> list[list[object]]:
    names = ["--name", HOSTILE + BACKWARDS, FORMULA]
    both = [data / "answers.jsonl", data / "answers.jsonl"]
    by = ["--by", "topic", "category", "skill*topic"]
    return [
        ["report", *both, *names, "--title", HOSTILE, "--data", data, "--out", out],
        ["score", "--predictions", *both, *names, *by, "--data", data, "--out", out],
        ["leaderboard", "--runs", *both, "--data", data, "--out", out, "--board", out / "none"],
    ]


def test_hostile_text_stays_text(hostile_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In questions, options, names and answers: not in HTML as markup, not in CSV as formula, not on the terminal."""
    out = tmp_path / "out"
    for command in hostile_commands(hostile_data, out):
        assert main([str(argument) for argument in command]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "\u202e" not in said
    assert max(map(len, said.splitlines())) < 3000
    page = (out / "report.html").read_text()
    assert "<script>window" not in page
    assert "<img src=x" not in page
    assert len(page) < 1_000_000
    for file in out.rglob("*.csv"):
        for line in file.read_text().splitlines():
            assert not re.search(r'(^|,)"?[=@]', line), (file, line)
    for file in out.rglob("*.md"):
        assert "<script" not in file.read_text()


@pytest.mark.slow
def test_hostile_text_does_not_run(browser: str, hostile_data: Path, tmp_path: Path) -> None:
    """The page shows the attacks as they were written, and nothing of them happens."""
    command = hostile_commands(hostile_data, tmp_path / "out")[0]
    assert main([str(argument) for argument in command]) == 0
    with check_report.opened(tmp_path / "out" / "report.html", browser) as (page, problems):
        page.fill("#words", "onerror")
        page.wait_for_timeout(400)
        assert page.inner_text("#found") == "4 of 4 questions"
        page.select_option("#outcome", "missed")
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert page.evaluate("window.hacked") is None
        assert page.evaluate("document.querySelectorAll('img').length") == 0
        assert "onerror" in page.inner_text("#by-topic")
    assert problems == []


def test_every_table_and_plot_is_a_file_too(demo_folder: Path, tmp_path: Path) -> None:
    """Markdown, CSV and JSON of each table, PNG of each plot, and a page that names no other file."""
    pids = json.loads((demo_folder / "pid_splits.json").read_text())["test"]
    write_predictions(tmp_path / "first.jsonl", [Prediction(pid, 0) for pid in pids])
    page = report([tmp_path / "first.jsonl"], str(demo_folder), tmp_path / "out", title="A & B")
    text = page.read_text()
    tables = {path.stem for path in (tmp_path / "out" / "tables").iterdir()}
    assert {"official", "by-subject-context", "by-skill"} <= tables
    for name in tables:
        assert {path.suffix for path in (tmp_path / "out" / "tables").glob(f"{name}.*")} == {".md", ".csv", ".json"}
        assert f'<section id="{name}"' in text
    assert (tmp_path / "out" / "plots" / "classes.png").read_bytes().startswith(b"\x89PNG")
    assert "<title>A &amp; B</title>" in text
    assert not re.search(r'(src|href)="(?!#|data:)', text)
    assert "@import" not in text


def test_training_and_probes_are_part_of_the_page(demo_folder: Path, tmp_path: Path) -> None:
    """Losses of a run, differences and gates of probes."""
    pids = json.loads((demo_folder / "pid_splits.json").read_text())["test"]
    write_predictions(tmp_path / "first.jsonl", [Prediction(pid, 0) for pid in pids])
    run, probes = tmp_path / "run", tmp_path / "probes"
    run.mkdir()
    probes.mkdir()
    (run / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0, "val_loss": 1.5}\n')
    compared = {"questions": 9, "difference": -3.0, "interval": {"low": -5.0, "high": -1.0}, "adjusted": 0.01}
    blank = {**compared, "accuracy": 40.0, "image_accuracy": None, "verdict": "worse"}
    found = {
        "name": "mine", "split": "test", "questions": 9, "unprobed": {"accuracy": 43.0, "image_accuracy": 50.0},
        "probes": {"blank": blank}, "visual_gain": None, "gates": {"first_layer": 3, "strengths": [[0.1, -0.2]] * 4},
    }  # fmt: skip
    (probes / "probe.json").write_text(json.dumps(found))
    page = report(
        [tmp_path / "first.jsonl"], str(demo_folder), tmp_path / "out", training=[run], probes=[probes]
    ).read_text()
    for said in ("Probes of mine", "Gates of mine", "Loss and validation accuracy", "-3.00"):
        assert said in page
    assert {path.stem for path in (tmp_path / "out" / "plots").iterdir()} >= {"loss", "probes-0", "gates-0"}


@pytest.mark.parametrize("fault", ["training", "probes", "probes damaged", "runs"])
def test_what_a_page_cannot_be_made_of(
    demo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    """A folder that is not what it is named as: one message, and no page."""
    pids = json.loads((demo_folder / "pid_splits.json").read_text())["test"]
    write_predictions(tmp_path / "first.jsonl", [Prediction(pid, 0) for pid in pids])
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "probe.json").write_text('{"name": 1}')
    options = {
        "training": ["--training", tmp_path],
        "probes": ["--probes", tmp_path],
        "probes damaged": ["--probes", tmp_path / "damaged"],
        "runs": [],
    }[fault]
    run = tmp_path if fault == "runs" else tmp_path / "first.jsonl"
    command = ["report", run, "--data", demo_folder, "--out", tmp_path / "out", *options]
    assert main([str(argument) for argument in command]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert str(tmp_path) in message
    assert not (tmp_path / "out").exists()


def test_thumbnails(tmp_path: Path) -> None:
    """Equal pictures stand once, broken ones and those without room are counted, and nothing is lost in order."""
    for name, color in (("a", "red"), ("b", "red"), ("c", "blue")):
        Image.new("RGB", (800, 400), color).save(tmp_path / f"{name}.png")
    (tmp_path / "d.png").write_bytes(b"no picture")
    files = [tmp_path / f"{name}.png" for name in "abcd"]
    found = thumbnails([None, *files])
    assert found.place == (-1, 0, 0, 1, -1)
    assert len(found.images) == 2
    assert list(found.left_out) == [str(files[3])]
    assert all(image.startswith("data:image/webp;base64,") for image in found.images)
    few = thumbnails(files, budget=len(found.images[0]) + 10)
    assert few.place == (0, 0, -1, -1)
    assert few.left_out[str(files[2])] == "no room in the page"


def test_long_texts_are_cut_and_say_so() -> None:
    """A megabyte of question does not become a megabyte of page; its length is told."""
    question = Question("1", "x" * 1_000_000, ("a", "b" * 50_000), 1, "y" * 10_000)
    system = make_system("s", [Prediction("1", 1, (), (), "z" * 20_000)], [question])
    data, _ = browser_data([question], [system])
    text = json.dumps(data)
    assert len(text) < 20_000
    assert "(994000 characters more)" in text
    assert data["questions"][0][12][0][0] == 1


@pytest.mark.slow
def test_questions_show_why_an_answer_was_read_so(browser: str, tmp_path: Path) -> None:
    """The words that a system wrote, the rule that read them, and its explanation."""
    page_file = check_report.make_report(tmp_path)
    with check_report.opened(page_file, browser) as (page, _):
        card = page.locator("#questions > li").first
        shown = card.inner_text()
        assert "first wrote: The answer is A." in shown
        assert "read by the rule answer is" in shown
        assert "first explains: It is first." in shown


@pytest.mark.slow
def test_answers_that_could_not_be_read_are_found(browser: str, hostile_data: Path, tmp_path: Path) -> None:
    """One question of four has none."""
    assert main([str(argument) for argument in hostile_commands(hostile_data, tmp_path / "out")[0]]) == 0
    with check_report.opened(tmp_path / "out" / "report.html", browser) as (page, _):
        page.select_option("#outcome", "unread 0")
        assert page.inner_text("#found") == "1 of 4 questions"
        assert "the answer could not be read" in page.inner_text("#questions")
        page.locator("#questions summary").click()
        assert page.locator("#questions details p").inner_text() == FORMULA


def test_unread_and_drawn_answers_are_told_from_those_that_are_not_there() -> None:
    """An answer drawn at random was read by no rule; a question without prediction has no unreadable one."""
    questions = [Question(pid, "Which?", ("a", "b"), 0) for pid in ("1", "2")]
    unreadable = [Prediction("1", -1, (), (), "no idea")]
    for reading, choices in ((Reading("wrong", "random"), (0, 1)), (Reading("wrong", "wrong"), (-1,))):
        system = make_system("s", unreadable, questions, reading=reading)
        data, _ = browser_data(questions, [system])
        [[first], [second]] = (row[12] for row in data["questions"])
        assert first[0] in choices
        assert first[2:] == ["no idea", "", "", 1]
        assert second == [-2, [], "", "", "", 0]


def test_rules_of_other_files_are_cut() -> None:
    """A rule is a name; a file of answers may hold anything in its place."""
    question = Question("1", "Which?", ("a", "b"), 0)
    system = make_system("s", [Prediction("1", 0, (), (), "A", "\u202e" + "R" * 1_000_000)], [question])
    data, _ = browser_data([question], [system])
    assert len(json.dumps(data)) < 1000
    assert "\u202e" not in data["questions"][0][12][0][3]
