"""The picture of a record: a file that it names, bytes, base64 text or, where the user allows it, a URL."""

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

from mm_adapter.core.files import cache_folder, write_atomically
from mm_adapter.data.record import BadRecord, is_inside, kind_of

MAX_BYTES = 64 << 20
_SECONDS = 20
# What the base64 of PNG, JPEG, GIF, WebP, BMP and TIFF begins with.
_BASE64 = re.compile(r"(iVBORw0KGgo|/9j/|R0lGOD|UklGR|Qk|SUkqA|TU0AK)[A-Za-z0-9+/\s]{40,}={0,2}\s*")
_DATA_URI = re.compile(r"data:image/[\w.+-]+;base64,(.*)", re.DOTALL)


@dataclass(frozen=True)
class PictureSource:
    """Where pictures of records may come from.

    Attributes:
        folder: names are relative to it; None where records carry their pictures, and no name is followed.
        allow_urls: download pictures that records name by ``http`` or ``https``.
        cache: folder for pictures that came as bytes or from a URL; the cache folder by default.
        must_exist: refuse a name without a file.
        bad: file -> why it cannot be used, where that is known.
    """

    folder: Path | None = None
    allow_urls: bool = False
    cache: Path | None = None
    must_exist: bool = True
    bad: Mapping[Path, str] = field(default_factory=dict)

    def find(self, value: Any, name: str = "image") -> Path | None:
        """Return the file of a record's picture, or None where the record has none.

        Args:
            value: a file name, bytes, base64 text, a URL, an object with ``bytes`` or ``path``, a list of one of
                these, or nothing.
            name: of the field, for messages.

        Raises:
            BadRecord: several pictures, a name that leads out of the folder, a file that is missing, a URL that is
                not allowed or not to be had, or something that is no picture.
        """
        if isinstance(value, list | tuple):
            if len(value) > 1:
                raise BadRecord(f"has {len(value)} pictures in '{name}'; one can be shown")
            value = value[0] if value else None
        if isinstance(value, Mapping):
            content, named = value.get("bytes"), value.get("path", value.get("file_name"))
            if content is None and self.folder is None and (named or not value):
                raise BadRecord(f"has a picture without its bytes in '{name}'")
            value = named if content is None else content
            if value is None or value == b"":
                raise BadRecord(f"has a picture without its bytes in '{name}'")
        if value is None or value == "":
            return None
        if not isinstance(value, str | bytes):
            raise BadRecord(f"has {kind_of(value)} in '{name}' where a file name belongs")
        path = self._store(value) if isinstance(value, bytes) else self._of_text(value.strip() or value, name)
        if path in self.bad:
            raise BadRecord(self.bad[path])
        return path

    def _of_text(self, text: str, name: str) -> Path:
        uri = _DATA_URI.fullmatch(text)
        if uri or _BASE64.fullmatch(text):
            try:
                return self._store(base64.b64decode("".join((uri[1] if uri else text).split()), validate=True))
            except binascii.Error as error:
                raise BadRecord(f"has damaged base64 in '{name}' ({error})") from None
        if re.match(r"https?://", text):
            return self._download(text, name)
        if self.folder is None:
            raise BadRecord(f"has a picture without its bytes in '{name}', only a name: {shortened(text)}")
        return find_picture(self.folder, text, self.must_exist)

    def _store(self, content: bytes) -> Path:
        """Write bytes into the cache, named by their SHA-256, unless they are there."""
        digest = hashlib.sha256(content).hexdigest()
        path = (self.cache or cache_folder()) / "images" / digest[:2] / digest
        if not path.exists():
            write_atomically(path, lambda temporary: _write_bytes(temporary, content))
        return path

    def _download(self, url: str, name: str) -> Path:
        if not self.allow_urls:
            raise BadRecord(f"names a URL in '{name}'; --allow-urls downloads pictures: {shortened(url)}")
        path = (self.cache or cache_folder()) / "urls" / hashlib.sha256(url.encode()).hexdigest()
        if not path.exists():
            content = _fetch(url)
            write_atomically(path, lambda temporary: _write_bytes(temporary, content))
        return path


def _fetch(url: str) -> bytes:
    from http.client import HTTPException
    from urllib.request import Request, urlopen

    try:
        with urlopen(Request(url, headers={"User-Agent": "mm-adapter"}), timeout=_SECONDS) as response:
            content: bytes = response.read(MAX_BYTES + 1)
    except (OSError, ValueError, HTTPException) as error:
        raise BadRecord(f"names a picture that cannot be downloaded ({error}): {shortened(url)}") from None
    if len(content) > MAX_BYTES:
        raise BadRecord(f"names a picture of more than {MAX_BYTES >> 20} MB: {shortened(url)}")
    return content


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def find_picture(folder: Path, name: Any, must_exist: bool = True) -> Path:
    """Return the picture that a record names relative to ``folder``, or by an absolute path inside it.

    A name without a file there is looked for in the folders directly below, where a dataset often keeps its pictures.
    The folder and the folders directly in it may be links; other links must not lead out of them.

    Raises:
        BadRecord: the name is no text, leads out of the folder, or no file is there.
    """
    if not isinstance(name, str):
        raise BadRecord(f"has {kind_of(name)} in 'image' where a file name belongs")
    if "\\" in name or re.match("[A-Za-z]:", name):
        raise BadRecord(f"names a picture as Windows does; write / between folders, relative ones: {shortened(name)}")
    if not name.isprintable() or not name.strip("/."):
        raise BadRecord(f"names a picture that cannot be: {shortened(name)}")
    relative = _relative(folder, name)
    path = folder / relative
    if not os.path.lexists(path):
        path = _below(folder, relative) or path
    # A link directly in the folder is the user's own; one further down may have come with an archive.
    homes = (folder, folder / path.relative_to(folder).parts[0]) if path.parent != folder else (folder,)
    if not any(is_inside(path, home) for home in homes):
        raise BadRecord(f"names a picture outside the image folder, through a link: {str(path)[:500]}")
    if must_exist and not os.path.isfile(path):
        raise BadRecord(f"names a picture that is missing: {str(path)[:500]}")
    return path


def _relative(folder: Path, name: str) -> str:
    """Return ``name`` as steps below ``folder``.

    Raises:
        BadRecord: it leads out of the folder.
    """
    path = os.path.normpath(os.path.join(os.path.abspath(folder), name))
    for home in (os.path.abspath(folder), os.path.realpath(folder)):
        if path.startswith(os.path.join(home, "")):
            return os.path.relpath(path, home)
    raise BadRecord(
        f"names a picture outside the image folder {folder}; name the folder that holds all pictures with "
        f"--image-folder: {shortened(name)}"
    )


def _below(folder: Path, relative: str) -> Path | None:
    """Return the one file of this name in the folders directly below; None where there is none.

    Raises:
        BadRecord: there are several.
    """
    try:
        below = sorted(entry.path for entry in os.scandir(folder) if entry.is_dir())
    except OSError:
        return None
    # os.path answers False where pathlib raises: names too long.
    found = [path for path in (Path(place, relative) for place in below) if os.path.isfile(path)]
    if len(found) > 1:
        raise BadRecord(f"names a picture that {found[0]} and {found[1]} could be; write its folder before the name")
    return found[0] if found else None
