"""Small inputs of the world that went wrong once: every one gives the right value, or a refusal that names the thing.

    python scripts/check_cases.py FOLDER [--only NAME] [--json FILE]

FOLDER holds a folder for each case; it is copied, and the commands run in the copy. A case passes where what is
expected of it was found: a figure, a text of a message with its exit status 2, or the value of an independent library.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from bars import bar, write_bars
from PIL import Image

from mm_adapter.cli import main as command_line
from mm_adapter.core.errors import UserError
from mm_adapter.core.images import open_image
from mm_adapter.data.conversations import read_conversations
from mm_adapter.data.readers import read_dataset
from mm_adapter.eval.parsing import read_choice
from mm_adapter.llama.checkpoints.load import load_llama

CASES: dict[str, Callable[[], None]] = {}


def case(function: Callable[[], None]) -> Callable[[], None]:
    """Register a check under its name: the case's folder."""
    CASES[function.__name__] = function
    return function


def run(*words: Any) -> tuple[int, str]:
    """Run the command line in this process; return its status and all that it said."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = command_line([str(word) for word in words])
    return status, said.getvalue()


def succeeds(*words: Any, says: str = "") -> str:
    """Run a command that must end well and say something."""
    status, said = run(*words)
    assert status == 0, f"{words}: status {status}: {said[-300:]}"
    assert says in said, f"{words}: {says!r} is not in {said[-600:]!r}"
    return said


def refuses(*words: Any, says: str) -> str:
    """Run a command that must be refused by one message that names something."""
    status, said = run(*words)
    assert status == 2, f"{words}: status {status}: {said[-300:]}"
    assert says.lower() in said.lower(), f"{words}: {says!r} is not in {said[-600:]!r}"
    assert "Traceback" not in said, said
    return said


def refused(call: Callable[[], Any], *says: str) -> None:
    """Call what must raise a ``UserError`` that names something."""
    found, message = attempt(call)
    assert message, f"not refused: {found!r:.200}"
    assert any(text.lower() in message.lower() for text in says), f"{says} is not in {message}"


def attempt(call: Callable[[], Any]) -> tuple[Any, str]:
    """Return what a call gives, or None and the message of its ``UserError``."""
    try:
        return call(), ""
    except UserError as error:
        return None, str(error)


def score(*words: Any) -> str:
    """Score predictions; return what is printed."""
    return succeeds("score", *words)


def tiny_run(out: str) -> None:
    """Train a text-only adapter on TINY."""
    sizes = ["--layers", 2, "--prompt-length", 2, "--epochs", 1, "--warmup-epochs", 0, "--quiet"]
    succeeds("train", "--llama", "TINY", "--vision", "none", "--data", "chat.jsonl", "--out", out, *sizes)


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
    for path in Path("C5").glob("*.json"):
        refused(lambda path=path: read_conversations(str(path)), "record 1", "turn")


@case
def C6() -> None:
    for path in Path("C6").glob("*.json"):
        refused(lambda path=path: read_conversations(str(path)), "instruction", "input", "output")


def logits_of_transformers(folder: str, ids: torch.Tensor) -> torch.Tensor:
    from transformers import AutoModelForCausalLM

    with torch.no_grad():
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()(ids).logits


def same_logits(folder: str) -> None:
    """Hold our logits against those of transformers, or take a refusal by name."""
    ids = torch.randint(3, 250, (1, 40), generator=torch.Generator().manual_seed(0))
    base, message = attempt(lambda: load_llama(folder))
    if base is None:
        assert folder in message, message
        return
    with torch.no_grad():
        ours = base.model(ids)
    theirs = logits_of_transformers(folder, ids)
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max(), float((ours - theirs).abs().max())


@case
def D1() -> None:
    for name in ("tied_own_head", "tied_copy", "untied_none"):
        same_logits(f"D1/{name}")


@case
def D3() -> None:
    begins = {}
    for name in ("flag_true", "template_flag_false", "sp_flag_false"):
        facts = json.loads(run("inspect", f"D3/{name}", "--json")[1])
        begins[name] = json.dumps(facts)
    tokenizer = load_llama("D3/sp_flag_false").tokenizer
    assert tokenizer is not None
    assert tokenizer.begin == (), begins["sp_flag_false"]


@case
def D5() -> None:
    for name in ("generation", "strftime"):
        succeeds("generate", "--adapter", "none", "--llama", f"D5/{name}", "hi", "--max-new-tokens", 4)


@case
def D6() -> None:
    for path in sorted(Path("D6").glob("*/*.gguf")):
        status, said = run("inspect", path)
        assert status == 0 or "part" in said, (path, said)


@case
def D7() -> None:
    for name in ("safetensors", "shards", "tokenizer", "tokenizerjson", "config", "bin", "meta", "x.gguf"):
        status, said = run("inspect", f"D7/{name}")
        assert status == 2, (name, said)
        assert "git lfs pull" in said.lower(), (name, said)
    refuses("score", "--predictions", "A9/result.json", "--data", "D7/D_problems", says="git lfs pull")
    refuses("features", "--vision", "efficientnet-lite0", "--data", "D7/D", "--out", "S", says="git lfs pull")
    refused(lambda: read_dataset("D7/parquet"), "git lfs pull")
    refused(lambda: open_image("D7/image.png"), "git lfs pull")


@case
def D8() -> None:
    for folder in sorted(Path("D8").iterdir()):
        same_logits(str(folder))


@case
def D9() -> None:
    status, said = run("inspect", "D9/smaug.gguf")
    assert status == 0 or "smaug-bpe" in said, said


@case
def E2() -> None:
    for folder in sorted(path for path in Path("E2").iterdir() if path.is_dir()):
        status, said = run(
            "convert", "--from", "peft", "--adapter", folder, "--llama", "TINY", "--out", f"O{folder.name}"
        )
        assert status in (0, 2), said
        assert "Traceback" not in said


@case
def E3() -> None:
    for place in ("lit_model.pth.adapter_v2", "folder_v2", "extra"):
        words = ["--from", "litgpt", "--adapter", f"E3/{place}", "--llama", "TINY", "--out", "O3"]
        said = refuses("convert", *words, says="")
        assert "adapter v2 of litgpt" in said or place == "extra", said


@case
def F1() -> None:
    import open_clip

    from mm_adapter.vision import ImageTower, VisionConfig

    weights = str(Path("b32.pt").absolute())
    torch.manual_seed(0)
    torch.save(open_clip.create_model("ViT-B-32-quickgelu").state_dict(), weights)
    picture = Image.effect_noise((224, 224), 90).convert("RGB")
    with patch.object(open_clip.factory, "download_pretrained", lambda *_, **__: weights):
        found = [
            (lambda tower: tower.encode(tower.preprocess(picture)[None]))(ImageTower(VisionConfig(name, 1)))
            for name in ("ViT-B-32/openai", "ViT-B-32-quickgelu/openai", f"ViT-B-32-quickgelu/{weights}")
        ]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    refused(lambda: ImageTower(VisionConfig(f"ViT-B-32/{weights}", 1)), "trained in 2 ways")


@case
def F3() -> None:
    refuses("features", "--vision", "local-dir:nowhere", "--data", "D", "--out", "S", says="open_clip_config.json")


@case
def G1() -> None:
    for words in (["generate", "--adapter", "none", "--llama", "TINY", "caf\udce9", "--max-new-tokens", 4],):
        refuses(*words, says="")


@case
def G3() -> None:
    succeeds("--version", says="mm-adapter")
    home = Path("home").absolute()
    home.mkdir()
    shutil.copytree("D", home / "D")
    with patch.dict(os.environ, {"HOME": str(home)}):
        score("--predictions", "A9/result.json", "--data=~/D")


@case
def X_fingerprint() -> None:
    Path("chat.jsonl").write_text("\n".join(json.dumps({"question": f"q{i}?", "answer": "a"}) for i in range(6)))
    tiny_run("RF")
    for base in ("D8/linear_new", "D3/template_flag_false"):
        words = ["--adapter", "RF", "--llama", base, "--question", "q1?", "--choices", "a", "b"]
        refuses("answer", *words, says="RF")


@case
def X_folder() -> None:
    words = ["--preset", "alpaca-smollm2", "--llama", "TINY", "--layers", 2, "--data", "X_folder/folder", "--epochs", 1]
    succeeds("train", *words, "--out", "RX", "--vision", "efficientnet-lite0", "--quiet", says="16 with a picture")


@case
def X_pil() -> None:
    for path in sorted(Path("X_pil").glob("*.*g")):
        expected = open_image(path).tobytes()
        assert open_image(Image.open(path)).tobytes() == expected, path
        assert open_image(path.read_bytes()).tobytes() == expected, path


@case
def X_table() -> None:
    words = ["--preset", "demo", "--llama", "TINY", "--layers", 2, "--data", "X_table/qa_image_path.csv", "--epochs", 1]
    succeeds("train", *words, "--out", "RT", "--quiet", says="16 with a picture")


@case
def X_wheel() -> None:
    import mm_adapter

    assert mm_adapter.data.__name__ == "mm_adapter.data"


def main() -> int:
    """Check every case, print a table, write the bars."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path, help="holds a folder for each case")
    parser.add_argument("--only", help="the case of this name alone")
    parser.add_argument("--json", type=Path, help="write the bars to this file")
    options = parser.parse_args()
    result = None if options.json is None else options.json.absolute()
    here = sorted(path.name for path in options.folder.iterdir() if path.is_dir() and path.name not in ("D", "TINY"))
    bars = []
    with tempfile.TemporaryDirectory() as place:
        shutil.copytree(options.folder, Path(place) / "cases")
        os.chdir(Path(place) / "cases")
        warnings.simplefilter("ignore")
        for name in [name for name in here if options.only in (None, name)]:
            reason = ""
            try:
                CASES[name]()
            except KeyError as error:
                reason = f"no check is written for it ({error})"
            except AssertionError as error:
                reason = str(error) or traceback.format_exc(limit=-1)
            except Exception:
                reason = traceback.format_exc(limit=-3)
            print(f"{name:<14} {'holds' if not reason else 'FAILS: ' + reason[:1500]}", flush=True)
            bars.append(bar(name, 0.0 if reason else 1.0, 1.0, not reason))
    print(f"{sum(item['holds'] for item in bars)} of {len(bars)} cases hold")
    if result is not None:
        write_bars(result, bars)
    return 0 if all(item["holds"] for item in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
