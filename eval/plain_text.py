"""Text of unknown origin, made harmless for terminals and spreadsheets."""

import re
import unicodedata

# Explicit directions and isolates (Unicode's Bidi_Control): they could show a name, or a figure beside it, backwards.
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?( %)?")


def visible(text: str, longest: int | None = None) -> str:
    """Return ``text`` on one line, with control characters and marks of direction written out.

    Cut to ``longest`` characters. A terminal would obey them: ``\\x1b`` colours, moves and titles, ``\\u202e`` turns
    the rest of the line around.
    """
    if longest is not None:
        text = text[: 4 * longest]  # so that a megabyte is not looked at letter by letter
    text = " ".join(text.split())
    shown = "".join(
        f"\\u{ord(letter):04x}" if letter in _DIRECTIONS or unicodedata.category(letter) in ("Cc", "Cs") else letter
        for letter in text
    )
    return shown if longest is None or len(shown) <= longest else shown[: longest - 1] + "…"


def spreadsheet(text: str) -> str:
    """Return ``text``, made visible, so that no spreadsheet takes it for a formula.

    That is with an apostrophe before ``=``, ``@``, ``+`` and ``-``. Numbers and a lone ``-`` stay as they are. (OWASP,
    "CSV injection".)
    """
    text = visible(text)
    plain = text == "-" or _NUMBER.fullmatch(text) is not None
    # Some programs look past spaces that nobody sees, and take the wide forms for the others.
    begins = unicodedata.normalize("NFKC", text.lstrip("\ufeff\u200b\u2060 "))[:1]
    return f"'{text}" if not plain and begins in ("=", "+", "-", "@") else text
