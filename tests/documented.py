"""What the documentation shows: its commands, its Python, its links; and how commands become small enough to be run."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "scripts/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_PROGRAMS = ("mm-adapter", "torchrun", "python", "make", "pip")


@dataclass(frozen=True)
class Shown:
    """A command of a page.

    Attributes:
        page: its name.
        words: as a shell takes them apart, without a comment and without what pipes and redirections do.
    """

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def shown_commands() -> list[Shown]:
    """Return every different command of all pages: lines of blocks, and whole commands within a sentence."""
    found = [Shown(page.name, words) for page in PAGES for words in _commands(page.read_text(encoding="utf-8"))]
    return list({command.words: command for command in found}.values())


def _commands(text: str) -> Iterator[tuple[str, ...]]:
    blocks = [match[2] for match in _FENCE.finditer(text) if match[1] in ("", "sh")]
    prose = _FENCE.sub("", text)
    blocks += re.findall(r"^    (.+)$", prose, re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`([^`\n]+)`", prose)
    for line in lines:
        if "…" in line or not line.strip().startswith(_PROGRAMS):
            continue  # the rest of a command that stands elsewhere
        # Optional parts are given, of choices the first is.
        line = re.sub(r"\[\w+ \.\.\.\]", "", line)
        line = re.sub(r"\[([^\]|]+)(\|[^\]]*)?\]", r"\1", line) if not line.strip().startswith("pip") else line
        line = re.sub(r"(?<= )(\w+)(\|\w+)+", r"\1", line)
        words = shlex.split(line, comments=True)
        words = words[: next((index for index, word in enumerate(words) if word in (">", "|")), len(words))]
        if words and words[0] in _PROGRAMS:
            yield tuple(words)


def shown_python() -> list[tuple[str, str]]:
    """Return every Python block with the name of its page."""
    pages = [(page.name, page.read_text(encoding="utf-8")) for page in PAGES]
    return [(name, match[2]) for name, text in pages for match in _FENCE.finditer(text) if match[1] == "python"]


def broken_links() -> list[str]:
    """Return the links of all pages to files or headings that are not there; links to other places are not followed."""
    broken = []
    for page in PAGES:
        text = _FENCE.sub("", page.read_text(encoding="utf-8"))
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", link):
                continue
            name, _, heading = link.partition("#")
            target = page.parent / name if name else page
            if not target.exists() or (heading and heading not in _headings(target)):
                broken.append(f"{page.name}: {link}")
    return broken


def _headings(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles}
