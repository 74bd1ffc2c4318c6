"""Find the tables of a source and give their rows by split: files, folders, pictures with metadata, a hub id."""

import csv
import io
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from mm_adapter.core.errors import UserError, suggestion
from mm_adapter.core.files import refuse_pointer
from mm_adapter.data.record import read_records, read_text

TEXT_FORMS = (".csv", ".tsv", ".json", ".jsonl", ".ndjson")
FORMS = (*TEXT_FORMS, ".parquet", ".arrow")
OFFICIAL = ("problems.json", "pid_splits.json")
"""Files of ScienceQA's own layout."""
EASY_VQA = "easy-vqa"
"""The name of the dataset that travels in a wheel (``data.easy_vqa``)."""
ALL = "all"
"""The split of a table that has none."""
_SPLITS = {"train": "train", "validation": "val", "valid": "val", "val": "val", "dev": "val", "test": "test"}
_WHOLE = "whole"
_SPLIT_NAME = re.compile(r"(train|validation|valid|val|dev|test)(?![A-Za-z])")
_CELL_LIMIT = 1 << 28  # characters of one cell: a picture in base64 has millions
_HUB_NAME = re.compile(r"(hub:)?([A-Za-z0-9][\w.-]*/[\w.-]+)(?::([\w.-]+))?", re.ASCII)
# What these name is plain enough without ``hub:``; any other name could be a mistyped path.
_KNOWN = ("derek-thomas/ScienceQA", "lmms-lab/ScienceQA", "tatsu-lab/alpaca")

# Excel's first line of a CSV that says what parts its cells.
_TOLD_SEPARATOR = re.compile(r"\"?sep=([^\w\s\"]|\t)\"?[ ]*(?:\r\n|\n|\r|\Z)", re.IGNORECASE)

Row = tuple[str, Any]


@dataclass(frozen=True)
class Table:
    """The rows of a source.

    Attributes:
        source: what the user named, for messages.
        splits: ``train``, ``val`` and ``test`` as far as they are there, or ``all`` -> rows, each with its place.
        columns: names of all columns, or keys of all records, in their order.
        folder: names of pictures are relative to it; None where rows carry their pictures.
    """

    source: str
    splits: Mapping[str, Iterable[Row]]
    columns: tuple[str, ...]
    folder: Path | None = None


def is_official(source: str) -> bool:
    """Tell whether ``source`` is a folder in ScienceQA's official layout."""
    # os.path answers False where pathlib raises: names too long, null characters.
    return any(os.path.isfile(os.path.join(source, name)) for name in OFFICIAL)


def is_easy_vqa(source: str) -> bool:
    """Tell whether ``source`` is the name of the dataset that travels in a wheel; what is here by that name wins."""
    return source == EASY_VQA and not os.path.exists(source)


def our_split(name: str) -> str:
    """Return what a split is called here: ``validation``, ``valid`` and ``dev`` are ``val``."""
    return _SPLITS.get(name.strip().lower(), name)


def open_table(source: str) -> Table:
    """Return the table in ``source``.

    It is a file (CSV, TSV, JSON, JSON lines, parquet, Arrow); a folder with a file or folder for each split, with one
    file, with pictures and their ``metadata``, or that ``datasets`` saved; or ``hub:owner/name``, with
    ``hub:owner/name:CONFIGURATION`` where the dataset has several.

    Raises:
        UserError: nothing can be read there, or it cannot be told what is meant.
    """
    # os.path answers False where pathlib raises: names too long, null characters.
    if os.path.basename(source) in OFFICIAL and os.path.isfile(source):
        raise UserError(f"{source}: this is a file of ScienceQA's official layout; give the folder that holds it.")
    if os.path.isfile(source):
        return _of_files(source, {_split_of_file(Path(source)): [Path(source)]})
    if os.path.isdir(source):
        folder = Path(source)
        if any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):
            return _loaded(source, "load_from_disk", source)
        return _of_files(source, find_tables(folder))
    check_source(source)
    hub = hub_name(source)
    if hub is None and os.path.exists(source):
        raise UserError(f"{source}: this is a pipe or a device, no table. Write it into a file.")
    if hub is None:
        raise UserError(
            f"{source}: its questions have options to choose from, they are no conversations; leave out --task."
        )
    return _loaded(source, "load_dataset", *hub)


def check_source(source: str) -> None:
    """Refuse a name under which nothing can be read, before anything is imported for it.

    Raises:
        UserError: there is no such file or folder, and no dataset of the hub is named.
    """
    if not (os.path.exists(source) or hub_name(source) or is_easy_vqa(source)):
        raise UserError(
            f"{source}: this file or folder does not exist. Check the path; a dataset of the hub is hub:owner/name."
        )


def hub_name(source: str) -> tuple[str, ...] | None:
    """Return the hub id that ``source`` names, and its configuration where it names one; None where it is no hub id.

    Nothing is looked for on the hub that is not said to be there: ``hub:owner/name``, or one of a few known names.
    """
    found = None if os.path.exists(source) else _HUB_NAME.fullmatch(source)
    if found is None or not (found[1] or found[2] in _KNOWN):
        return None
    return tuple(part for part in found.groups()[1:] if part)


def find_tables(folder: Path) -> dict[str, list[Path]]:
    """Return split -> its files in a folder; ``all`` where there is one table without splits.

    Raises:
        UserError: there is none, or more than one dataset is in the folder.
    """
    for place in (folder, folder / "data"):
        found = _named_files(place)
        if found:
            return found
    below = [Path(entry.path) for entry in sorted(os.scandir(folder), key=lambda e: e.name) if entry.is_dir()]
    splits: dict[str, list[Path]] = {}
    for place in below:
        split, files = _SPLITS.get(place.name.lower()), _files(place)
        if split and files:
            splits[split] = [*splits.get(split, []), *_one_form(place, files)]
    if splits:
        return _in_order(splits)
    named = {place: found for place in below if (found := _named_files(place))}
    if len(named) > 1:
        places = ", ".join(place.name for place in named)
        raise UserError(
            f"{folder}: {len(named)} configurations of a dataset are here, {places}. Give the folder of one of them, "
            f"such as {next(iter(named))}."
        )
    if named:
        return next(iter(named.values()))
    files = _files(folder)
    described = [path for path in files if path.stem == "metadata"] or files
    if len(described) == 1:
        return {ALL: described}
    if described:
        listed = ", ".join(path.name for path in described[:5])
        raise UserError(
            f"{folder}: which of its {len(described)} tables is meant, {listed}? Give one file, or call them train, "
            "val and test."
        )
    kinds = ", ".join(f"train{form}" for form in FORMS)
    raise UserError(
        f"{folder}: no table and no problems.json is in this folder. Expected are files for train, val and test "
        f"({kinds}), folders called so with tables in them, or pictures with metadata.csv or metadata.jsonl."
    )


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in FORMS and path.is_file())


def _named_files(folder: Path) -> dict[str, list[Path]]:
    """Return split -> files named after it."""
    found: dict[str, list[Path]] = {}
    for path in _files(folder):
        named = _SPLIT_NAME.match(path.name)
        if named:
            found.setdefault(_SPLITS[named[1]], []).append(path)
    return _in_order({split: _one_form(folder, files) for split, files in found.items()})


def _one_form(folder: Path, files: list[Path]) -> list[Path]:
    """Return the files of one split: parts of one parquet or Arrow table, or one file of another form."""
    if len(files) > 1 and ({path.suffix.lower() for path in files} & set(TEXT_FORMS)):
        described = [path for path in files if path.stem == "metadata"]
        if len(described) == 1:
            return described
        raise UserError(f"{folder}: {files[0].name} or {files[1].name}, which is meant? Take one of them away.")
    return files


def _in_order(splits: Mapping[str, list[Path]]) -> dict[str, list[Path]]:
    return {split: splits[split] for split in ("train", "val", "test") if split in splits}


def _split_of_file(path: Path) -> str:
    """Return the split that a file on its own is: ``val`` or ``test`` by its name, else all of a table."""
    split = _SPLITS.get(path.stem.lower(), ALL)
    return ALL if split == "train" else split


def _of_files(source: str, files: Mapping[str, list[Path]]) -> Table:
    first = next(iter(files.values()))[0]
    form = first.suffix.lower()
    if all(path.suffix.lower() in TEXT_FORMS or not path.suffix for paths in files.values() for path in paths):
        rows = {split: _read_text_form(paths[0]) for split, paths in files.items()}
        records = chain.from_iterable(rows.values())
        keys = dict.fromkeys(str(key) for _, record in records if isinstance(record, Mapping) for key in record)
        # Pictures of metadata in a folder for each split lie there, those of split files beside all of them.
        shared = {paths[0].parent for paths in files.values()}
        folder = first.parent if len(shared) == 1 else Path(source)
        return Table(source, rows, tuple(keys), folder)
    if any(path.suffix.lower() != form for paths in files.values() for path in paths):
        raise UserError(f"{source}: its splits are in several forms ({form} and others). Write all in one.")
    kinds = {".parquet": "parquet", ".arrow": "arrow"}
    if form not in kinds:
        raise UserError(f"{source}: a table is a file of {', '.join(FORMS)}; this one is of another form.")
    for path in chain.from_iterable(files.values()):
        refuse_pointer(path)
    # "all" is a word of its own to the library.
    names = {_WHOLE if split == ALL else split: [str(path) for path in paths] for split, paths in files.items()}
    folder = first.parent if len(names) == 1 else Path(source)
    return _loaded(source, "load_dataset", kinds[form], folder=folder, data_files=names)


def _loaded(source: str, function: str, *names: str, folder: Path | None = None, **options: Any) -> Table:
    # Imported here: tables of text are read without it.
    from mm_adapter.data.hub import load_rows

    found = load_rows(source, function, *names, **options)
    splits = {ALL if name == _WHOLE else our_split(name): rows for name, rows in found.items()}
    columns = dict.fromkeys(chain.from_iterable(rows.columns for rows in found.values()))
    return Table(source, splits, tuple(columns), folder)


def _read_text_form(path: Path) -> list[Row]:
    if path.suffix.lower() in (".csv", ".tsv"):
        return _read_cells(path)
    return read_records(path, "the table")


def _read_cells(path: Path) -> list[Row]:
    """Return the rows of a CSV or TSV file, each with the line that it ends in."""
    text = read_text(path, "the table")
    told = _TOLD_SEPARATOR.match(text)
    above = 1 if told else 0
    text = text[told.end() :] if told else text
    first = text.split("\n", 1)[0]
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    if told:
        separator = told[1]
    elif separator not in first:
        # Spreadsheets in much of Europe write semicolons, and tables with tabs are often called CSV.
        separator = next((other for other in (";", "\t", ",") if other in first), separator)
    limit = csv.field_size_limit(_CELL_LIMIT)
    rows: list[Row] = []
    # Universal newlines would change line breaks inside quoted cells; the module wants to see them as they are.
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
    try:
        header = [name.strip() for name in reader.fieldnames or []]
        again = next((name for name in header if header.count(name) > 1), None)
        if again is not None:
            raise UserError(f"{path}: two columns are called {again!r}. Rename one.")
        reader.fieldnames = header
        for row in reader:
            if None in row:
                raise UserError(
                    f"{path}, line {reader.line_num + above}: more cells than columns. Quote cells with {separator!r}."
                )
            if None in row.values():
                raise UserError(
                    f"{path}, line {reader.line_num + above}: fewer cells than columns. Complete the line; an empty "
                    f"cell has its {separator!r} too."
                )
            rows.append((f"line {reader.line_num + above}", row))
    except csv.Error as error:
        raise UserError(
            f"{path}, line {reader.reader.line_num + above}: not CSV ({error}). Quote cells with line breaks."
        ) from None
    finally:
        csv.field_size_limit(limit)
    if not rows:
        raise UserError(f"{path}: the table is empty.")
    return rows


def missing_split(source: str, split: str, known: Sequence[str]) -> UserError:
    """Return the error for a split that is not there."""
    listed = ", ".join(known) or "none"
    return UserError(f"{source}: there is no split {split!r}{suggestion(split, list(known))}. There are: {listed}.")
