"""One table of questions written in every form that people keep tables in."""

import base64
import csv
import io
import json
from pathlib import Path
from typing import Any

import datasets
from PIL import Image


def png(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), colour).save(buffer, "PNG")
    return buffer.getvalue()


COLOURS = ("red", "green", "blue", "white")
ROWS = [
    {"question": f"Which, {i}?", "choices": ["red", "green", "blue"], "answer": COLOURS[i % 3], "hint": f"See {i}."}
    for i in range(12)
]


def pictures(folder: Path) -> list[str]:
    """Write a picture for every second row; return the names by row, empty where there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{i}.png" if i % 2 == 0 else "" for i in range(len(ROWS))]
    for index, name in enumerate(names):
        if name:
            (folder / name).write_bytes(png(COLOURS[index % 3]))
    return names


def cells(path: Path, rows: list[dict[str, Any]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows({k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()} for row in rows)


def as_csv(place: Path) -> str:
    names = pictures(place)
    cells(place / "t.csv", [{**row, "image": name} for row, name in zip(ROWS, names, strict=True)])
    return str(place / "t.csv")


def as_tsv_of_columns(place: Path) -> str:
    """Options in columns A to C, answers by letter, pictures in a folder of their own."""
    names = pictures(place / "pics")
    rows = [
        {
            "question": row["question"],
            **dict(zip("ABC", row["choices"], strict=True)),
            "answer": "ABC"[row["choices"].index(row["answer"])],
            "hint": row["hint"],
            "picture": name and f"./pics/{name}",
        }
        for row, name in zip(ROWS, names, strict=True)
    ]
    cells(place / "t.tsv", rows)
    return str(place / "t.tsv")


def as_json_lines(place: Path) -> str:
    """Answers by index, pictures in base64."""
    pictures(place)
    lines = []
    for index, row in enumerate(ROWS):
        record = {"prompt": row["question"], "options": row["choices"], "label": row["choices"].index(row["answer"])}
        if index % 2 == 0:
            record["image"] = base64.b64encode((place / f"{index}.png").read_bytes()).decode()
        lines.append(json.dumps(record | {"context": row["hint"]}))
    (place / "t.jsonl").write_text("\n".join(lines))
    return str(place / "t.jsonl")


def as_json(place: Path) -> str:
    names = pictures(place)
    rows = [{**row, "image_path": str(place / name) if name else None} for row, name in zip(ROWS, names, strict=True)]
    (place / "t.json").write_text(json.dumps({"data": rows}, indent=1))
    return str(place / "t.json")


def loaded(place: Path) -> datasets.Dataset:
    pictures(place)
    bytes_ = [(place / f"{i}.png").read_bytes() if i % 2 == 0 else None for i in range(len(ROWS))]
    rows = [{**row, "image": c and {"bytes": c, "path": None}} for row, c in zip(ROWS, bytes_, strict=True)]
    return datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())


def as_parquet(place: Path) -> str:
    loaded(place).to_parquet(place / "t.parquet")
    return str(place / "t.parquet")


def as_saved_folder(place: Path) -> str:
    loaded(place / "x").save_to_disk(place / "saved")
    return str(place / "saved")


def as_image_folder(place: Path) -> str:
    """The layout of ``datasets``' image folders: pictures with ``metadata.csv`` beside them."""
    names = pictures(place / "f")
    rows = [{"file_name": name, **row} for row, name in zip(ROWS, names, strict=True)]
    cells(place / "f" / "metadata.csv", rows)
    return str(place / "f")


def as_folder_with_a_table(place: Path) -> str:
    as_csv(place)
    return str(place)


FORMS = [
    *(as_csv, as_tsv_of_columns, as_json_lines, as_json),
    *(as_parquet, as_saved_folder, as_image_folder, as_folder_with_a_table),
]
