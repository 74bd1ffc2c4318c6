"""Sentences that answer: ``The answer is B``, ``I choose B``, ``B is correct``, and whether they are meant so."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mm_adapter.eval import answer_languages
from mm_adapter.eval.answer_openings import ANSWER_IS, FINAL, I_CHOOSE, IS_CORRECT, IT_IS, SO
from mm_adapter.eval.answer_subjects import is_asked, speaks_of_another
from mm_adapter.eval.option_words import OptionWords, letter_index

_MOST_STARTS = 50
_LONGEST_SENTENCE = 400  # characters before the answer that are looked at


@dataclass(frozen=True)
class Claim:
    """What one place of a text says is the answer.

    Attributes:
        start: character at which it begins.
        choices: indices of the options that it names; more than one where it contradicts itself.
        rule: by which it was read.
        final: whether it calls itself final.
        alike: whether it means one of its choices, whose words are too much alike to tell which.
    """

    start: int
    choices: frozenset[int]
    rule: str
    final: bool = False
    alike: bool = False


NOBODY = frozenset([-1])
"""Beside an option it makes a claim that contradicts itself."""

# What stands behind an answer and ends it.
_END = re.compile(
    r"\s*$|\s*\n|\s?[.!]+(?=\s|$|[A-Z]{2}|\))|\s*[;,:](?=\s|$)|\s+[-–—/|]+\s|\s*[—–]|\s*\("
    r"|\s+(?:because|since|for|given|due|which|where|based|from|in|on|with|according|as|when|or|and|is the|rather than"
    r"|instead of|and not|not)\b"
    rf"|{answer_languages.SENTENCE_ENDS}",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"\s*(?:$|[.!\n]|,? because\b|,? since\b|[—–]|-\s)", re.IGNORECASE)
_REASON = re.compile(r"[\s.,:;]*because\b", re.IGNORECASE)
_LETTER = re.compile(
    r"(?:(?:the )?(?:option|choice|letter|answer|number)(?: is)?:? ?)?"
    r"(?:(?P<open>[(\[{<])\s*)?(?P<letter>[A-Za-z])(?![A-Za-z0-9'’])(?P<close>\s*[)\]}>])?(?P<dot>[.:)](?=[\s)]|$))?",
    re.IGNORECASE,
)
# What adds a second answer or puts the first in doubt: "A or B", "A. However, ...", "A? No".
_SECOND_THOUGHT = re.compile(
    r"[^\w?]*(?:and|or|but(?! (?:wait|no|actually))|nor|however|rather(?! than)|&|/|\+)(?:\b|\s)|\s*[&/+]|\s*\?"
    r"|[^\w?]*(?:not(?=\W*(?:$|\n|[.,;!]))|no(?! other\b| others\b))\b|[^\w?]*(?:wait|actually)\b"
    rf"|[^\w?]*(?:{answer_languages.SECOND_THOUGHTS})",
    re.IGNORECASE,
)
_CALLED = re.compile(r",? (?:which|that) is (?:(?:option|choice|letter) )?[(\[]?([A-Z])(?![A-Za-z'])")
_NEXT_PIECE = re.compile(
    r"[\s.,;:!]*(?:[-–—]+\s+)?([^.,;:!?\n]{1,300}?[)\].:]?)(?=[,;!\n]|[.:]\s*(?:$|\n)|$|\s+(?:or|and|because)\b)",
    re.IGNORECASE,
)
_MARKS = re.compile(r"^[\s,:;(\[]*(?:[-–—]+\s+)?[(\[]?")
_BOUNDARY = re.compile(r"[.!?;]+(?=\s|$)|\n|\s[-–—]+\s")
_CONNECTED = re.compile(
    r"(?:^|[\s,])(?:so|thus|therefore|hence|consequently|accordingly|(?:which|this|that) (?:means|implies)|meaning|then"
    r"|clearly|finally|overall|in (?:conclusion|summary|short)|but|still|and|conclude|result"
    r"|here(?: is|'s)|:)(?: that)?,?$",
    re.IGNORECASE,
)
_OPENER = re.compile(
    r"^(?:(?:(?:oh|wait|no(?! (?:\w+ )?answer)|yes|actually|sorry|oops|hm+|okay|ok|well|sure|right|correction)\b"
    r"[,.:;!–—-]*|wrong[,.:;!–—-]+)\s*)+",
    re.IGNORECASE,
)
_HYPOTHETICAL = re.compile(
    r"\b(?:if|unless|whether|suppos\w*|assum\w*|imagine|pretend|were)\b|" + answer_languages.CONDITIONS, re.IGNORECASE
)
_DENIED = re.compile(
    r"\b(?:not|never|no|cannot|doubt\w*|deny|denies|disagree\w*|misconception|reject\w*|false|wrong|incorrect|"
    r"unlikely|least|impossible|mistake\w*|says?|states?|said|"
    r"claims?|claimed|almost|nearly|once|was going to|used to|wanted to|wish|"
    r"hope|wonder|thought|might|may|could|would|some|people|students?|friend|someone|you|he|she|"
    r"they)\b|n't\b",
    re.IGNORECASE,
)
_TENTATIVE = re.compile(
    r"\b(?:maybe|perhaps|possibly|(?:not|un) ?sure|according to (?:my|a|an|some|his|her|their|most|one|other)|"
    rf"{answer_languages.TENTATIVE})\b[^,]*,$",
    re.IGNORECASE,
)
_DENIED_IN_CHINESE = re.compile(answer_languages.NO_ANSWER_BEFORE)
_SPEAKER = re.compile(
    r"\b(?:says?|said|claims?|claimed|thinks?|answers?|answered)\W*$|" + answer_languages.SPEAKERS, re.IGNORECASE
)
_OWN_VIEW = re.compile(r"^(?:so |thus |therefore |hence |and )?,?\s*(?:i|we|it|this|that)\b", re.IGNORECASE)
_LISTED = re.compile(r"\b[A-Z]$")
# "The solution is basic" may be said of a liquid.
_AMBIGUOUS = re.compile(
    r"(?:the |our |this )?(?:[\w-]+ ){0,3}?(?:solution|result|response|conclusion|letter|selection)\b[^:=→>]*$",
    re.IGNORECASE,
)
_ARTICLE = re.compile(r"(?:an?|the) ", re.IGNORECASE)


def _marked_as_letter(letter: re.Match[str]) -> bool:
    return letter["letter"].isupper() or letter["open"] is not None or letter["close"] is not None


class Sentences:
    """A text without mark-up, and its options: what its sentences claim.

    Args:
        text: what a model wrote, by ``mm_adapter.eval.answer_text``.
        options: of the question.
        question: that was asked; may be empty.
    """

    def __init__(self, text: str, options: OptionWords, question: str = "") -> None:
        self.text, self.options, self.question, self.lines = text, options, question, text.split("\n")
        self._boundaries = [0, *(match.end() for match in _BOUNDARY.finditer(text))]

    def claims(self) -> Iterator[Claim]:
        """Yield what the sentences claim, in no order; nothing for a text that begins its answer ever anew."""
        for pattern, rule, lower in (
            (ANSWER_IS, "answer is", True),
            (I_CHOOSE, "I choose", False),
            (IT_IS, "it is", False),
            (SO, "it is", False),
        ):
            starts = list(pattern.finditer(self.text))
            if len(starts) > _MOST_STARTS:
                continue
            for start in starts:
                if self._meant(start.start()):
                    final = FINAL.search(start.group()) is not None
                    yield from self._object(start.start(), start.end(), rule, lower, final)
        endings = list(IS_CORRECT.finditer(self.text))
        for ending in endings if len(endings) <= _MOST_STARTS else ():
            yield from self._subject(ending)

    def _before(self, place: int) -> str | None:
        """Return the part of the sentence before ``place``; None where it is too long to look at."""
        low, high = 0, len(self._boundaries)
        while low + 1 < high:
            middle = (low + high) // 2
            low, high = (middle, high) if self._boundaries[middle] <= place else (low, middle)
        start = self._boundaries[low]
        return None if place - start > _LONGEST_SENTENCE else _OPENER.sub("", self.text[start:place].strip())

    def _meant(self, place: int) -> bool:
        """Say whether what stands before an answer leaves it standing: "I doubt that the answer is B" does not."""
        before = self._before(place)
        if before is None or _HYPOTHETICAL.match(before) or _SPEAKER.search(before):
            return False
        if not before or _CONNECTED.search(before):
            return not re.search(r"\bif\b", before, re.IGNORECASE)
        if before[-1] in ",)":
            return not _HYPOTHETICAL.search(before.split(",")[0]) and not _TENTATIVE.search(before)
        if before[-1] == ":" or before.endswith(" that") or _OWN_VIEW.match(before):
            return (
                not _DENIED.search(before)
                and not _HYPOTHETICAL.search(before)
                and (before[-1] == ":" or before.endswith(" that") or len(before.split()) <= 4)
            )
        # In Chinese and Japanese no space parts what stands before.
        return before[-1] >= "\u3001" and not _DENIED_IN_CHINESE.search(before)

    def _object(self, start: int, place: int, rule: str, lower: bool, final: bool) -> Iterator[Claim]:
        """Yield what stands behind "the answer is": a letter that ends there, an option's words, or both."""
        words, end = self._longest_words(place)
        letter = _LETTER.match(self.text, place)
        # Words that go on behind a letter begin with it: "A, B and C" may be an option, "A plant" may have an article.
        goes_on = bool(words) and letter is not None and end > letter.end() + 1
        if goes_on and letter and letter["letter"] == "A" and not self.options.exact(self.text[place:end]):
            goes_on = not self.words_from(letter.end() + 1)
        beyond = bool(words) and letter is not None and letter_index(letter["letter"]) >= self.options.count
        if letter and not goes_on and not beyond and (lower or _marked_as_letter(letter)):
            yield from self._letter(start, letter, rule, final)
        if words and (rule != "it is" or _SENTENCE_END.match(self.text, end)) and self._of_asked(start, place, rule):
            yield self.claim(start, words, f"{rule} words", end, final)

    def _of_asked(self, start: int, place: int, rule: str) -> bool:
        """Say whether words at ``place`` are said of what was asked: not of "the solution", or of "it", the sky."""
        opening = self.text[start:place]
        if rule == "answer is":
            ambiguous = _AMBIGUOUS.match(opening)
            return not ambiguous or is_asked(opening, self.question) or self.text[place : place + 1].isdigit()
        before = self.text[max(0, start - _LONGEST_SENTENCE) : start].rstrip()
        if rule != "it is" or not before or _ARTICLE.match(self.text, place):
            return True
        last = _BOUNDARY.split(before.rstrip(".!?;"))[-1]
        return not speaks_of_another(last, self.question)

    def _letter(self, start: int, letter: re.Match[str], rule: str, final: bool) -> Iterator[Claim]:
        index, end = letter_index(letter["letter"]), letter.end()
        following, after = self._longest_words(end)
        if not following and self.text[end : end + 1] in tuple("(,:;-–— "):
            following, after = self._longest_words(end + 1)
        if _REASON.match(self.text, end):
            following = frozenset()
        if index in following:
            yield self.claim(start, frozenset([index]), rule, after, final)
        elif following or _SECOND_THOUGHT.match(self.text, end):
            yield Claim(start, following | {index} if following else NOBODY | {index}, rule, final)
        elif letter["close"] or letter["dot"] or _END.match(self.text, end):
            yield Claim(start, self.following(end) | {index}, rule, final)

    def _ends(self, place: int) -> list[int]:
        """Return where a piece that begins at ``place`` may end, the first few, and the end of the text."""
        ends, limit = [], place + 2 * self.options.longest + 40
        for end in _END.finditer(self.text, place, min(limit, len(self.text))):
            ends.append(end.start())
            if self.text[end.start() : end.start() + 1] in ("!", "."):
                ends.append(end.start() + 1)
            if len(ends) > 16:
                break
        return sorted({*ends, len(self.text)} if len(self.text) <= limit else {*ends})

    def _longest_words(self, place: int) -> tuple[frozenset[int], int]:
        found, at = frozenset[int](), place
        for end in self._ends(place):
            piece = self.text[place:end]
            # Not "-5": a sign is no mark between a letter and its words.
            forms = dict.fromkeys((piece.strip(), _MARKS.sub("", piece).rstrip(" \n,:;)]")))
            matched = next(filter(None, map(self.options.match, forms)), frozenset[int]())
            if matched:
                found, at = matched, end
        return found, at

    def words_from(self, place: int) -> frozenset[int]:
        """Return the options whose words the next piece of the text is; the longest piece counts."""
        return self._longest_words(place)[0]

    def words_end(self, place: int) -> int:
        """Return where those words end."""
        return self._longest_words(place)[1]

    def claim(self, start: int, choices: frozenset[int], rule: str, end: int, final: bool = False) -> Claim:
        """Return a claim that ends at ``end``; it contradicts itself where a second thought or other words follow."""
        called = _CALLED.match(self.text, end)
        second = _SECOND_THOUGHT.match(self.text, end) is not None
        if called and letter_index(called[1]) not in choices:
            second = True
        following = self.following(end)
        if following and not following & choices:
            second = True
        return Claim(start, choices | NOBODY if second else choices, rule, final, len(choices) > 1 and not second)

    def following(self, place: int) -> frozenset[int]:
        """Return the options that the next piece of the text names, holding nothing else: "A; B" names two."""
        piece = _NEXT_PIECE.match(self.text, place)
        if piece is None or _REASON.match(self.text, place):
            return frozenset()
        return self.words_from(piece.start(1)).union(*self.options.named(piece[1]).values())

    def _subject(self, ending: re.Match[str]) -> Iterator[Claim]:
        """Yield what stands before "is correct"."""
        before = self._before(ending.start())
        if not before or _HYPOTHETICAL.search(before):
            return
        start = ending.start() - len(before)
        pieces = [
            before,
            re.sub(
                r"^(?:.{0,200}[, ])?(?:so|thus|therefore|hence|think|believe|that|only),? ",
                "",
                before,
                flags=re.IGNORECASE,
            ),
        ]
        head, comma, tail = before.rpartition(", ")
        if comma and not _LISTED.search(head):
            pieces.append(tail)
        for piece in dict.fromkeys(pieces):
            named = self.options.named(piece)
            if "letter" in named and not re.search(r"[A-Z)\]]|(?:option|choice) [a-z]", piece):
                continue
            lead = before[: len(before) - len(piece)]
            if self.options.within(named) and not _DENIED.search(lead):
                yield self.claim(start, frozenset().union(*named.values()), "is correct", ending.end())
                return
