"""Cases of answers, questions, pictures and conversations: what each must give."""

import json
from pathlib import Path

from case_commands import attempt, case, refused, run, score, succeeds

from mm_adapter.core.images import open_image
from mm_adapter.data.conversation import USER, Turn
from mm_adapter.data.conversations import read_conversations
from mm_adapter.data.readers import read_dataset
from mm_adapter.data.templates import AlpacaTemplate
from mm_adapter.eval.parsing import read_choice


@case
def A2() -> None:
    for name in ("answers1", "answers2"):
        assert "100.00" in score("--predictions", f"A2/{name}.jsonl", "--data", "D"), name
    assert read_choice("B</s>", ("x", "y"))[0] == 1


@case
def A5() -> None:
    said = score("--predictions", "A5/answers.jsonl", "--data", "D")
    assert "8 questions" in said or "unread" in said or "could not be read" in said, said


@case
def A6() -> None:
    figures = {name: score("--predictions", f"A6/{name}.jsonl", "--data", "D") for name in ("list", "nested", "text")}
    rows = {text.replace(name, "NAME") for name, text in figures.items()}
    assert len(rows) <= 2, rows  # widths of names may differ
    assert all("100.00" in text for text in figures.values()), figures


@case
def A7() -> None:
    said = score("--predictions", "A7/20260101_samples_scienceqa_img.jsonl", "--data", "A7/D", "--missing", "leave-out")
    assert "100.00" in said, said


@case
def A8() -> None:
    said = score("--predictions", "A8/list.json", "--data", "D", "--missing", "leave-out")
    assert "Traceback" not in said
    for name in ("mmcot.json", "out.jsonl"):
        status, said = run("score", "--predictions", f"A8/{name}", "--data", "D", "--missing", "leave-out")
        assert status == 0 or "in no known layout" in said, (name, said)


@case
def A9() -> None:
    assert "50.00" in score("--predictions", "A9/result.json", "--data", "D")


@case
def A10() -> None:
    for suffix in ("tsv", "xlsx"):
        words = ["--predictions", f"A10/m_ScienceQA_TEST.{suffix}", "--data", "D", "--missing", "leave-out"]
        status, said = run("score", *words)
        assert status == 0 or "VLMEvalKit" in said, said


@case
def B1() -> None:
    refused(lambda: read_dataset("B1/P"), "ScienceQA-FULL, ScienceQA-IMG")
    assert len(read_dataset("B1/P/ScienceQA-FULL").split("test")) == 3


@case
def B3() -> None:
    picture = open_image(Path("B3/noheader.png"))
    assert picture.size == (64, 64)
    assert picture.getpixel((3, 3)) == (255, 0, 0)
    for path in Path("B3").glob("*.jpg"):
        assert open_image(path).size == (64, 64) or path.name == "orientation6.jpg", path


@case
def B4() -> None:
    for path in Path("B4").iterdir():
        assert open_image(path).mode == "RGB", path


@case
def B5() -> None:
    words = ["--vision", "efficientnet-lite0", "--data", "B5", "--out", "S", "--skip-bad"]
    succeeds("features", *words, says="skipped a: ")


@case
def B6() -> None:
    for folder in sorted(path for path in Path("B6").iterdir() if path.is_dir()):
        dataset, message = attempt(lambda folder=folder: read_dataset(str(folder)))
        if dataset is None:
            assert "answer" in message or "choices" in message or "grade" in message, message
        else:
            assert [question.answer for question in dataset.questions] == [1], folder


@case
def C1() -> None:
    for name in ("c.json", "with_mark.json"):
        (found,) = read_conversations(f"C1/{name}")
        assert found.image is not None, name
        assert found.turns[0].text == "What is it?"


@case
def C3() -> None:
    absolute = Path("C3/absolute.json")
    absolute.write_text(absolute.read_text().replace("C3/pics", str(Path("C3/pics").absolute())))
    table = Path("C3/absolute.csv")
    table.write_text(table.read_text().replace("C3/pics", str(Path("C3/pics").absolute())))
    for name in ("plain", "dot", "double", "absolute"):
        for suffix in ("json", "csv"):
            (found,) = read_conversations(f"C3/{name}.{suffix}", Path("C3/pics"))
            assert found.image is not None, name
            assert found.image.is_file(), name
    refused(lambda: read_conversations("C3/backslash.json", Path("C3/pics")), "as Windows does")


@case
def C4() -> None:
    words = [
        "--preset",
        "alpaca-smollm2",
        "--llama",
        "TINY",
        "--layers",
        2,
        "--vision",
        "efficientnet-lite0",
        "--quiet",
    ]
    for number, name in enumerate(("c", "cut")):
        succeeds("train", *words, "--data", f"C4/{name}.json", "--out", f"R4{number}", "--skip-bad", "--epochs", 1)
        skipped = json.loads(Path(f"R4{number}/run.json").read_text())["skipped"]
        assert len(skipped) == 1, skipped


@case
def C5() -> None:
    for name in ("gptfirst", "odd", "twohuman"):
        refused(lambda name=name: read_conversations(f"C5/{name}.json"), "record 1", "turn")
    # What the system says is written where the template has a place for it, and refused by name where it has none.
    request = read_conversations("C5/system.json")[1].turns[0]
    assert request == Turn(USER, "Hi?", system="Be kind."), request
    refused(lambda: AlpacaTemplate().render(request), "alpaca", "system", "--prompt-template")


@case
def C6() -> None:
    for path in Path("C6").glob("*.json"):
        refused(lambda path=path: read_conversations(str(path)), "instruction", "input", "output")
