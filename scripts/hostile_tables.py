"""Hostile datasets: ways out of the folder, ids that come twice, depth, numbers, wrong types, damaged tables."""

import base64
import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pyarrow
import pyarrow.parquet
from hostile_pictures import encoded, noise
from hostile_process import Hostile, Outcome, command, reading

from mm_adapter.data.conversations import open_conversations
from mm_adapter.data.readers import read_dataset

Made = tuple[str, list[str] | None, bool]
"""What the table is, the questions that an independent reader finds in it (None: not known), must it be refused."""


def row(number: int, **changes: Any) -> dict[str, Any]:
    """Return a good record with some fields changed."""
    return {"id": f"q{number}", "question": f"Question {number}?", "choices": ["red", "blue"], "answer": 1} | changes


def _write(path: Path, rows: list[dict[str, Any]]) -> list[str]:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return [str(one.get("question")) for one in rows]


def _escape(draw: Random, folder: Path) -> Made:
    """A picture outside the folder: by steps, absolute, by a link, by a name that no file can have."""
    secret = folder.parent.parent / "canary" / "secret.png"
    (folder / "in" / "deep").mkdir(parents=True)
    (folder / "in" / "deep" / "link.png").symlink_to(secret)
    (folder / "in" / "deep" / "out").symlink_to(secret.parent)
    names = ("../../../canary/secret.png", "../../../../../../../etc/passwd", "/etc/passwd", str(secret), "a\0b.png")
    names += ("in/deep/link.png", "in/deep/out/secret.png", "file:///etc/passwd", "C:\\x.png", "x" * 5000, "~/x.png")
    names += ("in/../../../../canary/secret.png", "http://127.0.0.1:1/x.png", "in/./../..", "/proc/self/environ")
    name = draw.choice(names)
    _write(folder / "table.jsonl", [row(0), row(1, image=name)])
    return f"picture {name[:40]!r}", None, True


def _official(draw: Random, folder: Path) -> Made:
    """ScienceQA's own layout with ids that are paths, doubled, missing or of another kind."""
    pid = draw.choice(("../../canary", "/etc", "a/b", "", "..", "1", "x" * 300))
    image = draw.choice(("image.png", "../../../canary/secret.png", 3, None))
    record = {"question": "Which?", "choices": ["a", "b"], "answer": 0, "image": image, "split": "test"}
    splits: Any = draw.choice(({"test": [pid, pid]}, {"test": [pid, "gone"]}, {"test": {pid: 1}}, [pid], {"test": [1]}))
    (folder / "problems.json").write_text(json.dumps({pid: record}))
    (folder / "pid_splits.json").write_text(json.dumps(splits))
    return f"official layout, id {pid[:20]!r}, splits {str(splits)[:40]}", None, True


def _ids(draw: Random, folder: Path) -> Made:
    again: Any = draw.choice(("q0", None, "", 0, {}, [], True, "q0 "))
    rows = [row(0), row(1, id=again), row(2)]
    if draw.random() < 0.3:
        del rows[1]["id"]
    return f"id {again!r}", _write(folder / "table.jsonl", rows), False


def _deep(draw: Random, folder: Path) -> Made:
    depth, kind = draw.choice((3000, 100_000, 1_000_000)), draw.choice(("list", "object", "field", "cell", "problems"))
    deep = "[" * depth + "]" * depth
    if kind == "object":
        deep = '{"a":' * depth + "1" + "}" * depth
    text = deep if kind != "field" else json.dumps(row(0))[:-1] + f', "choices": {deep}}}'
    if kind == "cell":
        (folder / "table.csv").write_text(f"question,choices,answer\nWhich?,{deep},0\n")
    elif kind == "problems":
        (folder / "problems.json").write_text(deep)
        (folder / "pid_splits.json").write_text("{}")
    else:
        (folder / "table.json").write_text(text)
    return f"{depth} levels of {kind}", None, True


def _number(draw: Random, folder: Path) -> Made:
    value = draw.choice(("1" + "0" * 400, "9" * 5000, "NaN", "Infinity", "-1", "1e400", "1.5", "18446744073709551616"))
    text = json.dumps(row(0)).replace('"answer": 1', f'"answer": {value}')
    (folder / "table.jsonl").write_text(text + "\n")
    return f"answer {value[:20]}", None, True


def _types(draw: Random, folder: Path) -> Made:
    name = draw.choice(("id", "question", "choices", "answer", "image", "hint", "grade", "lecture"))
    value: Any = draw.choice((None, True, 3, 1.5, "", "text", [], ["a"], [["a"], "b"], {}, {"a": 1}, [None, None]))
    rows = [row(0), row(1, **{name: value})]
    return f"{name} {value!r}", _write(folder / "table.jsonl", rows), False


def _turns(draw: Random, folder: Path) -> Made:
    """Conversations whose turns are not what they should be."""
    good = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "This."}]
    bad: Any = draw.choice(([], [good[1], good[0]], [1, 2], "x", [{"from": "x"}], good[:1], [{}], None, good * 5000))
    _write(
        folder / "table.jsonl",
        [{"id": "a", "conversations": [{**good[0], "value": "What?"}, good[1]]}, {"id": "b", "conversations": bad}],
    )
    return f"turns {str(bad)[:40]}", None, True


def _csv(draw: Random, folder: Path) -> Made:
    """A field of ten million characters, NUL, mixed ends of lines, other encodings, cells left open."""
    kind = draw.choice(("long", "nul", "ends", "utf-16", "latin-1", "open", "many", "bom", "formula", "columns"))
    lines = [["question", "A", "B", "answer"], ["One?", "x", "y", "A"], ["Two?", "x", "y", "B"]]
    if kind == "long":
        lines[1][0] = "long " * 2_000_000
    elif kind == "formula":
        lines[1][0] = '=HYPERLINK("http://x";"y")'
    elif kind == "columns":
        lines[0] = ["question", "question", "B", "answer"]
    buffer = io.StringIO()
    csv.writer(buffer).writerows(lines)
    text = buffer.getvalue()
    if kind == "nul":
        text = text.replace("x", "x\0", 1)
    elif kind == "ends":
        text = text.replace("\r\n", "\r", 1).replace("\r\n", "\n", 1)
    elif kind == "open":
        text = text.replace("Two?", '"Two?')
    elif kind == "many":
        text += "," * 300_000 + "\n"
    elif kind == "latin-1":
        text = text.replace("x", "é")
    coding = {"utf-16": "utf-16", "latin-1": "latin-1", "bom": "utf-8-sig"}.get(kind, "utf-8")
    (folder / "table.csv").write_bytes(text.encode(coding))
    # As it was given to the standard library, where it may be read.
    good = {"formula", "bom"}
    told = [one[0] for one in lines[1:]] if kind in good else None
    return f"CSV {kind}", told, kind in ("long", "utf-16", "latin-1", "open", "many", "columns")


def _parquet(draw: Random, folder: Path) -> Made:
    """Truncated or flipped, pictures that are none, columns of other types."""
    kind = draw.choice(("truncated", "flipped", "pictures", "types", "empty", "whole", "noise"))
    rows = [row(number) for number in range(30)]
    if kind == "pictures":
        rows[3]["image"] = {
            "bytes": draw.choice((b"no picture", b"", b"\x89PNG\r\n\x1a\n" + b"\0" * 9)),
            "path": "a.png",
        }
    if kind == "types":
        rows = [one | {"answer": draw.choice(([0, 1], {"a": 1}, 1.5))} for one in rows[:1]]
    path = folder / "table.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows[: 0 if kind == "empty" else None] or []), path)
    content = bytearray(path.read_bytes())
    if kind == "truncated":
        del content[draw.randrange(len(content)) :]
    elif kind == "noise":
        content = bytearray(b"PAR1" + draw.randbytes(3000) + b"PAR1")
    elif kind == "flipped":
        for _ in range(draw.randrange(1, 9)):
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)
    told = [one["question"] for one in rows] if kind == "whole" else None
    return f"parquet {kind}", told, kind in ("truncated", "types", "empty", "noise")


def _cells(draw: Random, folder: Path) -> Made:
    """Pictures as base64 in cells: damaged, bombs, no pictures."""
    png = base64.b64encode(encoded(noise(draw, 20, 20), "png")).decode()
    cell = draw.choice((png[:-5], "iVBORw0KGgo" + "A" * 500, f"data:image/png;base64,{png[:50]}!", "R0lGOD" + "x" * 80))
    _write(folder / "table.jsonl", [row(0), row(1, image=cell)])
    return f"base64 {cell[:30]}", None, True


def _source(draw: Random, folder: Path) -> Made:
    """No table at all in its place."""
    kind = draw.choice(("fifo", "device", "loop", "folders", "binary", "empty", "brackets"))
    path = folder / "table.jsonl"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind in ("device", "loop"):
        path.symlink_to("/dev/zero" if kind == "device" else path.name)
    elif kind == "folders":
        path.mkdir()
    else:
        path.write_bytes({"binary": draw.randbytes(5000), "empty": b"", "brackets": b"[]\n{}\n"}[kind])
    return f"a {kind} as table", None, True


FORMS = (
    _escape,
    _escape,
    _official,
    _ids,
    _deep,
    _number,
    _types,
    _types,
    _turns,
    _csv,
    _csv,
    _parquet,
    _cells,
    _source,
)


def _questions(source: str, check: bool) -> list[str]:
    return [question.question for question in read_dataset(source, check_images=check).questions]


def _told(told: list[str] | None) -> Callable[[Outcome], str]:
    def right(found: Outcome) -> str:
        same = told is None or sorted(found.value) == sorted(told)
        return "" if same else f"gives {str(found.value)[:200]}, where {str(told)[:200]} stand"

    return right


def draw_table(draw: Random, folder: Path, places: dict[str, Any], number: int) -> Hostile:
    """Draw a dataset, write it, and say who reads it: a reader, a feature run, an evaluation or a training."""
    form = FORMS[number % len(FORMS)]
    inside = folder / "data"
    inside.mkdir()
    name, told, refused = form(draw, inside)
    files = sorted(inside.iterdir())
    tables = [path for path in files if path.name.startswith("table")]
    source = str(tables[0]) if tables and draw.random() < 0.6 else str(inside)
    way = ("reader", "train", "evaluate", "features")[number % 5 % 4]
    label = f"table: {name}, {way} of {'a file' if source != str(inside) else 'the folder'}"
    if form is _turns:
        act = reading(lambda: [item.turns[0].text for item in open_conversations(source).split("all")])
        return Hostile(label, "tables", act, lambda _: "", refused, "table")
    if way == "reader":
        return Hostile(label, "tables", reading(lambda: _questions(source, True)), _told(told), refused, "table")
    if way == "features":
        words = ("features", "--vision", "efficientnet-lite0", "--data", source, "--out", folder / "out")
        # Whether a question is whole is not this command's to say: pictures alone are looked at.
        return Hostile(label, "tables", command(*words), lambda _: "", False, "features")
    if way == "evaluate":
        words = ("evaluate", "--adapter", places["letters"], "--data", source, "--out", folder / "out", "--quiet")
        split = ("--split", "all") if form not in (_official,) else ()
        return Hostile(label, "tables", command(*words, *split), lambda _: "", refused and form is not _escape, "train")
    words = ("train", "--llama", places["llama"], "--vision", "none", "--data", source, "--out", folder / "out")
    sizes = ("--layers", 2, "--prompt-length", 2, "--epochs", 1, "--warmup-epochs", 0, "--quiet")
    return Hostile(label, "tables", command(*words, *sizes), lambda _: "", False, "train")


def well_meant(draw: Random, folder: Path, places: dict[str, Any]) -> list[Hostile]:
    """Return tables of two thousand rows, and a small training, an evaluation and pictures to look at."""
    (folder / "many").mkdir()
    _write(folder / "many" / "table.jsonl", [row(number, hint="Long. " * 500) for number in range(2000)])
    told = [f"Question {number}?" for number in range(2000)]
    (folder / "few").mkdir()
    (folder / "few" / "a.png").write_bytes(encoded(noise(draw, 640, 480), "png"))
    _write(folder / "few" / "table.jsonl", [row(number, image="a.png") for number in range(12)])
    few, many = str(folder / "few" / "table.jsonl"), str(folder / "many" / "table.jsonl")
    words = ("train", "--llama", places["llama"], "--vision", "none", "--data", few, "--out", folder / "out")
    sizes = ("--layers", 2, "--prompt-length", 2, "--epochs", 1, "--warmup-epochs", 0, "--quiet")
    features = ("features", "--vision", "efficientnet-lite0", "--data", few, "--out", folder / "out")
    return [
        Hostile("rows", "tables", reading(lambda: _questions(many, False)), _told(told), group="table"),
        Hostile("training", "tables", command(*words, *sizes), lambda _: "", group="train"),
        Hostile("features", "tables", command(*features), lambda _: "", group="features"),
    ]
