"""easy-VQA, a public set of questions about drawn shapes: fetched as a wheel, read without running anything of it.

Source: github.com/vzhou842/easy-VQA, MIT; the wheel ``easy-vqa==1.0``. Every picture shows one shape of one colour.
"""

import json
import re
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

from mm_adapter.core.errors import UserError
from mm_adapter.core.files import WheelFile, fetch, write_atomically
from mm_adapter.data.question import Dataset, Question, hold_out
from mm_adapter.data.table_files import EASY_VQA

WHEEL = WheelFile(
    "easy-vqa==1.0",
    "",
    "fcb51b309b78c7b00f97b64cdbcbcf5c105f94da1b39c0796cee5a787c4f650f",
    "copy the cache folder of a machine that has it",
)
VAL_SHARE = 0.1
"""Of the pictures of the official train split: 400 of 4,000 are ``val``, with all their questions."""
_FOLDER = "easy_vqa/data"
# The release has 1.9 MB of questions and pictures of less than a kilobyte.
_MOST_TEXT, _MOST_PICTURE = 32 << 20, 1 << 20
# The templates of the official generator (gen_data/questions.py); a colour stands before the word "shape".
_OPEN = {
    "shape": re.compile(r"what shape (is in the image|is present|does the image contain)\?|what is the \w+ shape\?"),
    "colour": re.compile(r"what (color is|is the color of) the \w+\?"),
}
_YES_OR_NO = re.compile(
    r"(is there( not)? a|does the image( not)? contain a|is (a|no)) \w+( shape)?( in the image| present)?\?"
)


def kind_of_question(text: str) -> str | None:
    """Return what a question asks for, or None where no template of the official generator gives its text.

    Kinds are ``shape``, ``colour``, ``yes/no: shape``, ``yes/no: colour``, and the last two with ``, negated`` behind
    them: "is there not a circle?", "does the image not contain a red shape?", "is no red shape present?".
    """
    for kind, template in _OPEN.items():
        if template.fullmatch(text):
            return kind
    if not _YES_OR_NO.fullmatch(text):
        return None
    negated = ", negated" if re.search(r" (not|no) ", text) else ""
    return f"yes/no: {'colour' if ' shape' in text else 'shape'}{negated}"


def read_easy_vqa(source: WheelFile | None = None) -> Dataset:
    """Return easy-VQA, fetching its wheel on first use; pictures lie in the cache folder.

    Options are all answers of the set, in alphabetical order, the same for every question. ``test`` is the official
    split; ``val`` is held out of the official train split by pictures (``VAL_SHARE``, drawn by ``hold_out``), so that
    none of its pictures is in ``train``. A pid is official split and place there, from 0: ``easy-vqa-train-17``.
    ``topic`` is the kind of question (``kind_of_question``).

    Args:
        source: the wheel; the published one by default.

    Raises:
        UserError: the wheel cannot be fetched, or something in it is not as in the release.
    """
    source = source or WHEEL
    wheel = fetch(source)
    try:
        with zipfile.ZipFile(wheel) as archive:
            return _read(archive, wheel.parent, source.requirement)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        # What damaged, encrypted and unknown kinds of members raise.
        raise UserError(f"{wheel}: this wheel cannot be unpacked ({error}). Delete it; it is fetched again.") from error


def _read(archive: zipfile.ZipFile, folder: Path, name: str) -> Dataset:
    options = tuple(sorted(_text(archive, f"{_FOLDER}/answers.txt", name).split()))
    if len(options) < 2 or len(set(options)) < len(options):
        raise UserError(f"{name}: answers.txt must list different answers, a line each. Use the published release.")
    questions: list[Question] = []
    members: dict[Path, zipfile.ZipInfo] = {}
    for official in ("train", "test"):
        own = [
            _question(name, official, number, record, options, folder)
            for number, record in enumerate(_records(archive, official, name))
        ]
        for question in own:
            assert question.image is not None
            if question.image not in members:
                members[question.image] = _picture(archive, question, name)
        questions += own if official == "test" else _divided(own)
    for path, member in members.items():
        _place(archive, member, path)
    splits = {split: tuple(q.pid for q in questions if q.split == split) for split in ("train", "val", "test")}
    return Dataset(tuple(questions), splits, source=EASY_VQA)


def _question(name: str, official: str, number: int, record: Any, options: tuple[str, ...], folder: Path) -> Question:
    where = f"{name}: question {number} of {official}"
    if not (isinstance(record, list) and len(record) == 3 and isinstance(record[0], str)):
        raise UserError(f"{where} is not [text, answer, number of a picture]. Use the published release.")
    text, answer, picture = record
    if answer not in options:
        raise UserError(f"{where} has the answer {shortened(answer)}, which answers.txt does not list.")
    # No name from the wheel becomes a path: only a number does.
    if type(picture) is not int or picture < 0:
        raise UserError(f"{where} has {shortened(picture)} where the number of a picture belongs.")
    kind = kind_of_question(text)
    if kind is None:
        raise UserError(f"{where} is of no known kind: {shortened(text)}. Use the published release.")
    return Question(
        pid=f"{EASY_VQA}-{official}-{number}",
        question=text,
        options=options,
        answer=options.index(answer),
        image=folder / official / f"{picture}.png",
        topic=kind,
        split=official,
    )


def _divided(questions: list[Question]) -> list[Question]:
    """Return the questions of the official train split, each as one of ``train`` or ``val``, by pictures."""
    pictures = sorted({int(question.image.stem) for question in questions if question.image is not None})
    held = set(hold_out([str(picture) for picture in pictures], VAL_SHARE)[1])
    return [replace(q, split="val") if q.image is not None and q.image.stem in held else q for q in questions]


def _text(archive: zipfile.ZipFile, member: str, name: str) -> str:
    """Return a text of the wheel.

    Raises:
        UserError: it is missing, too long or not UTF-8.
    """
    try:
        info = archive.getinfo(member)
        if info.file_size > _MOST_TEXT:
            raise UserError(f"{name}: {member} has {info.file_size:,} bytes; at most {_MOST_TEXT:,} are read.")
        return archive.read(info).decode("utf-8")
    except KeyError:
        raise UserError(f"{name}: the wheel does not hold {member}. Use the published release.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: {member} is not UTF-8 text (byte {error.start}).") from None


def _records(archive: zipfile.ZipFile, official: str, name: str) -> list[Any]:
    member = f"{_FOLDER}/{official}/questions.json"
    try:
        records = json.loads(_text(archive, member, name))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name}: {member} is not JSON ({error}). Use the published release.") from None
    if not isinstance(records, list) or not records:
        raise UserError(f"{name}: {member} must be a list of questions. Use the published release.")
    return records


def _picture(archive: zipfile.ZipFile, question: Question, name: str) -> zipfile.ZipInfo:
    """Return the member that is a question's picture.

    Raises:
        UserError: there is none, or it is too large.
    """
    assert question.image is not None
    member = f"{_FOLDER}/{question.image.parent.name}/images/{question.image.name}"
    try:
        info = archive.getinfo(member)
    except KeyError:
        raise UserError(f"{name}: the wheel has no {member[:200]}, the picture of {question.pid}.") from None
    if info.file_size > _MOST_PICTURE:
        raise UserError(f"{name}: {member} has {info.file_size:,} bytes; at most {_MOST_PICTURE:,} are read.")
    return info


def _place(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    """Unpack a picture into the cache, unless it lies there as the wheel has it; each use looks again."""
    if path.is_file() and path.stat().st_size == member.file_size and zlib.crc32(path.read_bytes()) == member.CRC:
        return
    content = archive.read(member)

    def fill(temporary: Path) -> None:
        temporary.write_bytes(content)

    write_atomically(path, fill, lasting=False)
