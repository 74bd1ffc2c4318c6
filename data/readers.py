"""Read questions: ScienceQA's official layout (``problems.json``, ``pid_splits.json``, ``images/``), or a table.

Source: Lu et al., "Learn to Explain", arXiv 2209.09513, and the files of github.com/lupantech/ScienceQA.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

from mm_adapter.core.errors import UserError
from mm_adapter.core.files import read_json
from mm_adapter.data.question import Dataset, Question, TableOptions, refuse_bad
from mm_adapter.data.record import BadRecord, is_inside, question_from_record
from mm_adapter.data.table_files import is_easy_vqa, is_official, open_table

# The official split file also has minitrain, minival, minitest and trainval: samples and unions of these three,
# in which a pid may appear again.
DISJOINT_SPLITS = ("train", "val", "test")


def read_scienceqa(folder: Path, skip_bad: bool = False, check_images: bool = False) -> Dataset:
    """Return the questions of an official ScienceQA folder.

    Args:
        folder: holds ``problems.json``, ``pid_splits.json`` and, where pictures are wanted, ``images``.
        skip_bad: leave bad questions out and record why (`Dataset.bad`) instead of refusing the folder.
        check_images: a question whose picture is not on disk is bad. Off by default: scoring needs no pictures.

    Raises:
        UserError: a file is missing or not of the expected form; or, without ``skip_bad``, a question is bad: no
            options, an answer out of range, wrong types, in no split or in two, a picture outside the folder; or a
            split names an unknown pid.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: this data folder does not exist. Check the path given to --data.")
    problems = _read_object(folder / "problems.json", "the file of questions")
    splits = _read_splits(folder / "pid_splits.json")
    homes, bad = _assign_splits(problems, splits)
    questions: list[Question] = []
    for pid, record in problems.items():
        if pid in bad:
            continue
        try:
            image = _find_image(folder, homes[pid], pid, record)
            if check_images and image is not None and not os.path.isfile(image):
                raise BadRecord(f"names a picture that is missing: {image}")
            questions.append(question_from_record(pid, record, homes[pid], image))
        except BadRecord as reason:
            bad[pid] = str(reason)
    dataset = Dataset(questions=tuple(questions), splits=splits, bad=bad, source=str(folder))
    return dataset if skip_bad else refuse_bad(dataset, str(folder / "problems.json"))


def _read_object(path: Path, what: str) -> dict[str, Any]:
    try:
        value = read_json(path, what)
    except (RecursionError, ValueError) as error:
        # Nesting thousands deep and numbers thousands of digits long are errors of their own in the json module.
        raise UserError(f"{path}: {what} is not usable JSON ({error}). Restore or regenerate the file.") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: {what} must be a JSON object at its top. Restore the official file.")
    try:
        "".join(value).encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(f"{path}: {what} has a name with broken characters in it. Restore the official file.") from None
    return value


def _read_splits(path: Path) -> dict[str, tuple[str, ...]]:
    splits: dict[str, tuple[str, ...]] = {}
    for name, pids in _read_object(path, "the file of splits").items():
        if not isinstance(pids, list) or not all(isinstance(pid, str) for pid in pids):
            raise UserError(f"{path}: split {name[:80]!r} must be a list of pids as text. Restore the official file.")
        splits[name] = tuple(pids)
    return splits


def _assign_splits(
    problems: Iterable[str], splits: dict[str, tuple[str, ...]]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return pid -> its split, and pid -> reason for the unknown, the repeated and those in no split."""
    known = set(problems)
    homes: dict[str, str] = {}
    bad: dict[str, str] = {}
    for name in sorted(splits, key=lambda name: name not in DISJOINT_SPLITS):
        seen: set[str] = set()
        for pid in splits[name]:
            if pid not in known:
                bad[pid] = f"is named by split {name!r} of pid_splits.json, but problems.json does not have it"
            elif pid in seen:
                bad[pid] = f"is listed twice in split {name!r} of pid_splits.json"
            elif pid in homes and name in DISJOINT_SPLITS:
                bad[pid] = f"is in two splits of pid_splits.json, {homes[pid]!r} and {name!r}"
            seen.add(pid)
            homes.setdefault(pid, name)
    bad.update({pid: "is in no split of pid_splits.json" for pid in problems if pid not in homes})
    return homes, bad


def _find_image(folder: Path, split: str, pid: str, record: Any) -> Path | None:
    """Return where the record's picture is or should be: under its split in the split file, else under its own one.

    Raises:
        BadRecord: the name is no text, or the path leaves the data folder, be it by a link below its split.
    """
    if not isinstance(record, dict) or record.get("image") in (None, ""):
        return None
    name, own = record["image"], record.get("split")
    if not isinstance(name, str):
        raise BadRecord("has something else than a file name in 'image'")
    paths = []
    for place in dict.fromkeys((split, own if own and isinstance(own, str) else split)):
        if not all(_is_plain(part) for part in (place, pid, name)):
            raise BadRecord(f"names a picture outside the data folder: {shortened('/'.join((place, pid, name)))}")
        path = folder / "images" / place / pid / name
        # Links to the folders of pictures are the user's own; one further down may have come with an archive.
        if not any(is_inside(path, home) for home in (folder, folder / "images" / place)):
            raise BadRecord(f"names a picture outside the data folder, through a link: {path}")
        paths.append(path)
    return next(filter(os.path.exists, paths), paths[0])


def _is_plain(part: str) -> bool:
    """Whether ``part`` is one step of a path: no separator of any system, no drive, no way up, nothing unprintable."""
    return part not in ("", ".", "..") and part.isprintable() and not set(part) & set("/\\:")


def read_dataset(
    source: str, skip_bad: bool = False, check_images: bool = False, options: TableOptions | None = None
) -> Dataset:
    """Return the questions of ``source``: a ScienceQA folder, ``easy-vqa``, or a table in a form of ``open_table``.

    What exists on disk wins over a name that is fetched, ``easy-vqa`` or a hub id.

    Args:
        source: what the user gave as ``--data``.
        skip_bad: leave bad questions out and record why, instead of refusing the whole.
        check_images: a question whose picture file is missing is bad.
        options: how a table is taken.

    Raises:
        UserError: there is nothing to read, or it is bad; or options of tables go with the official layout.
    """
    if is_official(source):
        if options is not None and options.images is not None:
            raise UserError("--image-folder: pictures of questions lie in the dataset's own folder; leave it out.")
        if options is not None and options != TableOptions():
            raise UserError(f"{source}: the official ScienceQA layout needs no options of tables; leave them out.")
        return read_scienceqa(Path(source), skip_bad, check_images)
    if is_easy_vqa(source):
        if options is not None and options != TableOptions():
            raise UserError(f"{source}: this dataset needs no options of tables; leave them out.")
        # Imported here: only who names it reads it.
        from mm_adapter.data.easy_vqa import read_easy_vqa

        return read_easy_vqa()
    # Imported here: the official layout is read without them.
    from mm_adapter.data.question_rows import read_questions

    return read_questions(open_table(source), skip_bad, check_images, options)


def task_of(source: str, task: str = "auto", options: TableOptions | None = None) -> str:
    """Return ``questions`` or ``conversations``: the task that is named, or what ``source`` is.

    Raises:
        UserError: nothing can be read there.
    """
    if task != "auto" or is_official(source) or is_easy_vqa(source):
        return "questions" if task == "auto" else task
    # Imported here: the official layout is read without it.
    from mm_adapter.data.conversations import is_conversations

    return "conversations" if is_conversations(source, options) else "questions"
