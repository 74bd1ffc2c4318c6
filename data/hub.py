"""ScienceQA as the hub keeps it: parquet files with the pictures inside, as in ``derek-thomas/ScienceQA``.

Columns are the fields of the official ``problems.json``, except that ``image`` holds the bytes of the picture. Read
through the ``datasets`` library, which does the downloading and caching of hub ids.
"""

import hashlib
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mm_adapter.core.errors import UserError
from mm_adapter.core.files import cache_folder, write_atomically
from mm_adapter.data.question import Dataset, Question, refuse_bad
from mm_adapter.data.record import BadRecord, question_from_record

COLUMNS = (
    *("pid", "image", "question", "choices", "answer", "hint", "grade"),
    *("subject", "topic", "category", "skill", "lecture", "solution"),
)


def read_hub(source: str, skip_bad: bool = False, cache: Path | None = None) -> Dataset:
    """Return the questions of a hub dataset, or of a local folder of parquet files in the hub's layout.

    The hub's split ``validation`` is called ``val`` here. A ``pid`` column is used where there is one; otherwise a
    question is called ``<split>-<row>``, rows from 0.

    Args:
        source: a hub id (``owner/name``) or a folder with files such as ``data/train-00000-of-00001.parquet``.
        skip_bad: leave bad questions out and record why (`Dataset.bad`) instead of refusing the dataset.
        cache: where the pictures are written, each once, named by the SHA-256 of its bytes. By default
            ``$MM_ADAPTER_CACHE``, or ``mm-adapter`` in the user's cache folder.

    Raises:
        UserError: the dataset cannot be had or read; or, without ``skip_bad``, a question is bad.
    """
    cache = cache_folder() if cache is None else cache
    splits: dict[str, tuple[str, ...]] = {}
    questions: dict[str, Question] = {}
    bad: dict[str, str] = {}
    for split, rows in load_splits(source, COLUMNS).items():
        pids = []
        for row, record in enumerate(read_rows(source, split, rows)):
            pid = str(record["pid"]) if record.get("pid") is not None else f"{split}-{row}"
            if pid in questions or pid in bad:
                bad[pid] = f"is there twice, the second time in row {row} of split {split!r}"
                questions.pop(pid, None)
            else:
                try:
                    image = _store_image(record.get("image"), cache / "images")
                    questions[pid] = question_from_record(pid, record, split, image)
                except BadRecord as reason:
                    bad[pid] = str(reason)
            pids.append(pid)
        splits[split] = tuple(dict.fromkeys(pids))
    dataset = Dataset(questions=tuple(questions.values()), splits=splits, bad=bad, source=source)
    return dataset if skip_bad else refuse_bad(dataset, source)


def parquet_splits(folder: Path) -> dict[str, list[Path]]:
    """Return train, val and test -> their parquet files in ``folder`` or its direct subfolders, named as on the hub."""
    found: dict[str, list[Path]] = {}
    for path in sorted([*folder.glob("*.parquet"), *folder.glob("*/*.parquet")]):
        named = re.match(r"(train|validation|val|test)(?![a-z])", path.name)
        if named:
            found.setdefault(_our_name(named[1]), []).append(path)
    return {split: found[split] for split in ("train", "val", "test") if split in found}


def _our_name(split: str) -> str:
    return "val" if split == "validation" else split


def load_splits(source: str, columns: Sequence[str]) -> dict[str, Any]:
    """Return our split name -> its `datasets.Dataset` with ``columns`` alone, pictures left as bytes.

    Args:
        source: a hub id or a folder of parquet files.

    Raises:
        UserError: the dataset cannot be had or read.
    """
    import datasets

    options: dict[str, Any] = {}
    if "trust_remote_code" in inspect.signature(datasets.load_dataset).parameters:
        options["trust_remote_code"] = False  # Old releases would run a script found in the dataset.
    folder = Path(source)
    try:
        if folder.is_dir():
            files = {split: [str(path) for path in paths] for split, paths in parquet_splits(folder).items()}
            if not files:
                raise UserError(f"{source}: no parquet file is named train-…, validation-… or test-… here.")
            loaded = datasets.load_dataset("parquet", data_files=files, **options)
        else:
            loaded = datasets.load_dataset(source, **options)
    except UserError:
        raise
    except Exception as error:
        # The library raises its own, pyarrow's, the hub client's and the network's errors.
        cause = error.__cause__ or error
        reason = " ".join(str(cause).split())[:300] or type(cause).__name__
        place = "a damaged file?" if folder.is_dir() else "no such folder here, and not to be had from the hub"
        raise UserError(f"{source}: this dataset cannot be loaded, {place} ({reason}). Check --data.") from error
    return {_our_name(str(name)): _undecoded(rows, columns) for name, rows in loaded.items()}


def _undecoded(rows: Any, columns: Sequence[str]) -> Any:
    """Return the rows with ``columns`` alone; nothing untrusted is decoded while they are read."""
    import datasets

    rows = rows.select_columns([name for name in columns if name in rows.column_names])
    if isinstance(rows.features.get("image"), datasets.Image):
        rows = rows.cast_column("image", datasets.Image(decode=False))
    return rows


def read_rows(source: str, split: str, rows: Any) -> Iterator[dict[str, Any]]:
    """Yield the rows; text that is not UTF-8 and the like comes out as an error only here."""
    try:
        yield from rows
    except (ValueError, OSError, ArithmeticError) as error:
        raise UserError(f"{source}: split {split!r} cannot be read ({error}). Download the files again.") from error


def _store_image(value: Any, folder: Path) -> Path | None:
    """Write the picture's bytes into ``folder`` unless they are there, and return the file.

    A path is never followed: a dataset from elsewhere has no business naming files of this machine.

    Raises:
        BadRecord: there is a picture, but not as bytes in the row.
    """
    if value is None:
        return None
    content = value.get("bytes") if isinstance(value, Mapping) else None
    if not isinstance(content, bytes) or not content:
        raise BadRecord("has a picture without its bytes in 'image'")
    digest = hashlib.sha256(content).hexdigest()
    path = folder / digest[:2] / digest
    if not path.exists():
        write_atomically(path, lambda temporary: _write_bytes(temporary, content))
    return path


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)
