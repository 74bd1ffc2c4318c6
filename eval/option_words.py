"""Which options a piece of an answer names, when it holds nothing else: by letter, by words, or by both."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mm_adapter.eval.answer_text import evened, without_markup

_KIND = r"(?:(?:the )?(?:option|choice|letter|answer)(?: (?:choice|option|letter))? ?[:=]? ?)"
_BARE_LETTER = re.compile(
    rf"(?:(?:definitely|probably|likely|clearly|obviously|certainly|surely|sure|"
    rf"of course|okay|ok)[,!]? )?{_KIND}?"
    r"[(\[{<]*([A-Z])[)\]}>]*[.:,;!)]*"
    r"(?:\s*[(:]?\s*[0-9]{1,3}(?:\.[0-9]+)?\s?%\)?)?(?:,? i (?:think|believe|guess|would say)\.?|,? it is\.?)?",
    re.IGNORECASE,
)
_LETTER_FIRST = re.compile(
    rf"{_KIND}?(?:[(\[{{<]([A-Z])[)\]}}>][.:,]?|([A-Z])(?:[.:)\]]+|(?=\s*[-–—,;=→|/(]|\s)))"
    r"(\s*[,;=→|/:>]+\s*|\s*[-–—]+\s+|\s*)(.+)",
    re.DOTALL | re.IGNORECASE,
)
_LETTER_LAST = re.compile(
    rf"(.+?)[\s,:–—-]*(?:[(\[]\s*{_KIND}?([A-Z])\s*[)\]]|(?:,|\s[-–—])\s*{_KIND}([A-Z]))[.!]?",
    re.DOTALL | re.IGNORECASE,
)
_BARE_LETTER_LAST = re.compile(r"(.+?)[.,:;]?(?:\s(?:[-–—=→/]+>?\s)?|\s?[=→/]\s?)([A-Z])[.!]?", re.DOTALL)
_ARTICLE = re.compile(r"(?:the |an (?=[aeiouh])|a (?![aeiou]))")
_MARKS_BEFORE_SPACE = re.compile(r"[,;:!?]+(?=\s|$)")
_HYPHEN = re.compile(r"(?<=[^\W\d_])[-‐‑–—](?=[^\W\d_])")
_DASHES = str.maketrans({"‐": "-", "‑": "-", "–": "-", "—": "-", "−": "-"})
_WORD = re.compile(r"[^\W\d_]{2}")


def letter_index(letter: str) -> int:
    """Return the index of the option that a letter stands for; A and a are 0."""
    return ord(letter.upper()) - ord("A")


@dataclass(frozen=True)
class OptionWords:
    """The words of a question's options, to be found again in an answer.

    Attributes:
        count: number of options.
        tiers: from the strictest comparison to the most lenient: compared form -> indices of the options that have it.
        shortest, longest: characters of the shortest form that is compared, at least 1, and of the longest option.
        preferred: options whose words stand in the text exactly, mark-up included; they decide where mark-up alone
            tells options apart.
    """

    count: int
    tiers: tuple[Mapping[str, frozenset[int]], ...]
    shortest: int
    longest: int
    preferred: frozenset[int] = field(default=frozenset())

    @classmethod
    def of(cls, options: Sequence[str], preferred: Iterable[int] = ()) -> "OptionWords":
        """Return the words of ``options``."""
        bare = [without_markup(option) or evened(option) for option in options]
        tiers = tuple(_grouped([compare(text) for text in bare]) for compare in _COMPARED)
        shortest = min((len(form) for forms in tiers for form in forms), default=1)
        return cls(len(options), tiers, shortest, max(map(len, options), default=0), frozenset(preferred))

    def match(self, text: str) -> frozenset[int]:
        """Return the options whose words ``text`` is, by the strictest comparison that finds any."""
        if not self.shortest <= len(text) <= 2 * self.longest + 40:
            return frozenset()
        for compare, forms in zip(_COMPARED, self.tiers, strict=True):
            found = forms.get(compare(text), frozenset())
            if found and text.rstrip().endswith("?"):
                # "Blue?" asks, unless the option does.
                found &= frozenset().union(*(ones for form, ones in self.tiers[0].items() if form.endswith("?")))
            if found:
                return found & self.preferred or found
        return frozenset()

    def pattern(self, index: int) -> str:
        """Return a regular expression for the words of an option, letter case aside."""
        forms = (form for form, found in self.tiers[2].items() if index in found)
        return "|".join(re.escape(form) for form in forms) or r"(?!)"

    def exact(self, text: str) -> bool:
        """Say whether ``text`` is an option's words with nothing forgiven but a full stop."""
        return any(compare(text) in forms for compare, forms in zip(_COMPARED[:2], self.tiers, strict=False))

    def named(self, text: str, begins: bool = True) -> dict[str, frozenset[int]]:
        """Return rule -> options that ``text`` names, holding nothing else; empty where it names none.

        A letter beside the words of another option names both. A letter that is followed by a space alone counts
        where the words are its own: else ``A plant`` would name the first option.

        Args:
            begins: whether a sentence begins here, where ``A`` may be an article.
        """
        text = text.strip()
        if len(text) > 2 * self.longest + 80:
            return {}
        found: dict[str, frozenset[int]] = {}
        letter = _BARE_LETTER.fullmatch(text)
        # A letter on a line of its own is no article.
        words = frozenset[int]() if re.match(r"[Aa]\n", text) else self.match(text)
        # Options may be letters themselves: of G and g, "G" is the first and no seventh.
        if letter and not (words and letter_index(letter[1]) >= self.count):
            found["letter"] = frozenset([letter_index(letter[1])])
        both = self._letter_and_words(text, begins, words)
        if both:
            found["letter and words"] = both
        # "A plant": with both readings at hand, the article's is none.
        if words and not (both and len(both) == 1):
            found["words"] = words
        return found

    def within(self, named: Mapping[str, frozenset[int]]) -> bool:
        """Say whether anything is named, and no letter alone beyond the options."""
        return any(min(found) < self.count for found in named.values())

    def mentioned(self, text: str) -> frozenset[int]:
        """Return the options whose words stand anywhere in ``text``, letter case aside, or whose letter does."""
        plain = _one_line(text).casefold()
        found = frozenset(letter_index(label[1]) for label in re.finditer(r"(?:\(|\b[Oo]ption )([A-Z])\b", text))
        for form, indices in self.tiers[2].items():
            if re.search(rf"(?<!\w){re.escape(form)}(?!\w)", plain):
                found |= indices
        return found

    def _letter_and_words(self, text: str, begins: bool, words: frozenset[int]) -> frozenset[int]:
        first = _LETTER_FIRST.fullmatch(text)
        if first:
            letter = letter_index(first[1] or first[2])
            rest = first[4].strip()
            inner = rest[1:-1] if rest[:1] in "([" and rest[-1:] in ")]" else rest.rstrip(".")
            matched = self.match(rest) or self.match(inner)
            spaced = first[2] is not None and text[first.end(2)].isspace() and not first[3].strip()
            article = (spaced and first[2] == "a") or (spaced and first[2] == "A" and begins and bool(words))
            if letter in matched:
                return frozenset([letter])
            if matched and not article:
                return matched | {letter}
        last = _LETTER_LAST.fullmatch(text)
        if last:
            matched = self.match(last[1])
            letter = letter_index(last[2] or last[3])
            if matched:
                return frozenset([letter]) if letter in matched else matched | {letter}
        plain = _BARE_LETTER_LAST.fullmatch(text)
        return self.match(plain[1]) & {letter_index(plain[2])} if plain else frozenset()


def _grouped(forms: Sequence[str]) -> dict[str, frozenset[int]]:
    found: dict[str, set[int]] = {}
    for index, form in enumerate(forms):
        if form:
            found.setdefault(form, set()).add(index)
    return {form: frozenset(indices) for form, indices in found.items()}


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _without_stop(text: str) -> str:
    return _one_line(text).removesuffix(".")


def _without_case(text: str) -> str:
    return _without_stop(text).casefold()


def _lenient(text: str) -> str:
    """Letter case, marks between words, hyphens and a leading article are forgiven; what has no word is left alone."""
    strict = _without_case(text).translate(_DASHES)
    if not _WORD.search(strict):
        return strict
    text = _one_line(_MARKS_BEFORE_SPACE.sub("", _HYPHEN.sub(" ", strict)).rstrip(".,;:!? "))
    article = _ARTICLE.match(text)
    return text[article.end() :] if article and _WORD.search(text, article.end()) else text


_COMPARED = (_one_line, _without_stop, _without_case, _lenient)
