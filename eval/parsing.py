"""Reading the chosen option out of a model's free text, by rules that a reader can check (docs/evaluation.md).

First all that is no answer is taken off (``mm_adapter.eval.answer_text``). Then every rule says what it reads:

- ``letter``, ``words``, ``letter and words``, ``index``: the whole text names one option.
- ``boxed``, ``answer tag``, ``JSON``: so does what is set apart as the answer.
- ``answer is``, ``I choose``, ``it is``, each also with ``words``, ``is correct``: a sentence answers
  (``mm_adapter.eval.answer_sentences``).
- ``letter line``, ``line``, ``beginning``: the option has a line of its own, or begins a text that goes on with an
  explanation.
- ``sentence``: a text of one sentence ends with ``is`` and one option's words, and names no other.

"Not A but B" and "the second option" are read as "B"; what stands beside an answer may put it in doubt: another
option's words, a verdict that it is wrong, a second answer (``mm_adapter.eval.answer_doubts``).

There is an answer where all that speak name the same option. A correction ("Wait, no: ...") takes back what stands
before it; a final answer decides over what stands before it. Where nothing speaks, two options are named, an answer is
denied ("is not B"), or the letter is beyond the options, there is none (-1). Nothing is guessed.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from mm_adapter.eval.answer_doubts import in_doubt, plainly
from mm_adapter.eval.answer_languages import CORRECTIONS, VERDICTS
from mm_adapter.eval.answer_sentences import NOBODY, Claim, Sentences
from mm_adapter.eval.answer_speakers import without_speakers
from mm_adapter.eval.answer_statements import stated
from mm_adapter.eval.answer_text import (
    BESIDE,
    MARKED_FALSE,
    answer_fields,
    evened,
    own_answer,
    without_fields,
    without_markup,
    without_struck,
)
from mm_adapter.eval.option_words import OptionWords, letter_index
from mm_adapter.eval.record import UNREADABLE

T = TypeVar("T")

_MOST_LOOKED_AT = 60  # lines, or places of one kind, in a text
_WHOLE = ("letter", "words", "letter and words", "index")
_HAS_LETTER = re.compile(r"[^\W\d_]")
_NUMBER = re.compile(r"[0-9]{1,2}")
_LABEL = r"(?:option |choice )?(?:[(\[]([A-Za-z])[)\]][.:,]?|([A-Za-z])[.):\]]{1,2})"
_LABEL_THEN_MORE = re.compile(rf"{_LABEL}\s+(.+)", re.DOTALL | re.IGNORECASE)
_LABEL_THEN_REASON = re.compile(
    r"(?:option |choice )?[(\[]?([A-Z])[)\]]?\.?()(?:,? (?:because|since)\b|, as\b|\s+[-–—]+\s|\s*[—–])\s*(.*)",
    re.DOTALL,
)
_LABEL_AND_SPACE = re.compile(r"(?:option |choice )?([A-Z])() (.+)", re.DOTALL)
_LISTED = re.compile(r"(?<!is )(?<!nswer: )(?<![\w(\[])[(\[]?([A-Z])[)\].:]+\s*")
_LABELS = re.compile(
    r"(?<!\S)\(?([A-Za-z])\)\s|(?:^|\n|[.;!?]\s+)([A-Z])[.:]\s+\w|(?:^|[,;.!?\n]\s*)([A-Z])(?:[:.]|\s[–—-])\s+\w"
)
# "A: the first three" may be a speaker's words or a point of a list; a sentence about it explains a letter.
_EXPLAINS = re.compile(
    r"(?:it|this|that|these|those|they|there|he|she|we|i|its?)\b|(?:because|since|as|unlike|when|if|by|for|due)\b"
    r"|[^.!?\n]*\b(?:is|are|was|were|has|have|had|does|do|did|can|will|would|shows?|means?|uses?)\b",
    re.IGNORECASE,
)
_LABEL_LINES = re.compile(r"^[(\[]?([A-Z])[.:)\]]+\s+\S", re.MULTILINE)
_ONE_MORE_LABEL = re.compile(
    r"\b(?:or|and|nor)\s+(?:option )?[(\[]?[A-Z](?![A-Za-z'])|[/&]\s*[A-Z](?![A-Za-z])|\s[-–—]\s[A-Z]\s*(?:$|[-–—])"
)
# "B) is wrong" speaks about B, "A. No, B" takes it back; neither chooses.
_ABOUT = re.compile(
    r"(?:is|isn't|was|are|can|can't|cannot|could|does|doesn't|has|would|might|may|seems|looks|and|or|but|not|no|nor|wait|"
    r"actually|however|rather|incorrect|wrong|false|eliminated?|ruled|unlikely|impossible|too|hmm+|"
    r"this one|i(?:'m| am) not|(?:this|that|it)(?: (?:one|option|choice|answer))?(?: (?:is|was|does|do|can|could))?"
    r"(?: (?:not|wrong|incorrect|false)|n't|not))\b"
    # A verdict or a share of each option: "A: 0.1", "(A) ✗".
    r"|[0-9.]+\s?%?\s*(?:$|[,;\n]|[(\[]?[A-Z]\b)"
    r"|(?:none|all|both|neither)(?: of (?:these|those|them|the above))?\s*(?:$|[.!])|n/a\b"
    r"|see (?:the )?(?:picture|image|below|above)"
    r"|un(?:clear|known|sure)\b|i (?:do not|don't|can't|cannot) |[?/&✗✘❌×✖✕]"
    rf"|{VERDICTS}",
    re.IGNORECASE,
)
_PIECE_END = re.compile(r"[.!?;\n](?=\s|$)")
_WORDS_END = re.compile(r"\.(?=\s)|\n|,? (?:because|since)\b|\s+[-–—]+\s", re.IGNORECASE)
_CORRECTION = re.compile(
    r"(?:^|[.!?\n—–]\s*|\s-+\s)(?:oh,? |but,? |hmm+,? |so,? )?"
    rf"(?:wait\b|no(?=[,.!:;—–])|{CORRECTIONS}|actually\b|hold on\b|correction\b|on second thoughts?\b"
    r"|scratch that\b|oops\b|sorry\b"
    r"|i (?:was wrong|made an? (?:mistake|error)|apologi[sz]e|take that back|misspoke|stand corrected)\b"
    r"|my (?:mistake|bad)\b|that(?: is|'s) (?:wrong|incorrect|not right|not correct)\b"
    r"|let me (?:correct|reconsider|rethink|re-?evaluate|re-?check|double.?check)\b)"
    rf"|, ?(?:(?:no,? )?wait\b|{CORRECTIONS})",
    re.IGNORECASE,
)
_DENIAL = re.compile(
    r"(?:[Aa]nswer|[Cc]hoice|[Oo]ption|[Ii]t)(?: is|'s| can|) ?(?:not|isn't|can't be|cannot be) (?:be )?"
    r"(?:option |choice )?[(\[]?([A-Z])(?![\w'])(?! [a-z])"
    r"|\b(?:option )?[(\[]?([A-Z])[)\]]?,? (?:is|was)(?: clearly| definitely)? "
    r"(?:not (?:the )?(?:correct|right|best|answer)|wrong|incorrect|false)\b"
    r"|\b([A-Z])[)\]]? isn't (?:the )?(?:correct|right|answer)\b"
)


def read_choice(text: str, options: Sequence[str], question: str = "") -> tuple[int, str]:
    """Return the index of the option that ``text`` chooses by the rules above, and the name of the first such rule.

    Args:
        text: what a model wrote.
        options: the words of every option, in order; letter A is the first.
        question: that was asked; it tells whether a sentence such as "The ball is blue" speaks of what was asked.

    Returns:
        -1 and an empty name where the text chooses none.
    """
    written = own_answer(text)
    found = _read(written, options, question)
    if found[0] == UNREADABLE:
        return found
    # What may be struck out or said by somebody else is an answer where the rest says the same.
    struck = without_struck(text)
    others = (None if struck is None else own_answer(struck), without_speakers(written))
    if any(other is not None and _read(other, options, question)[0] != found[0] for other in others):
        return UNREADABLE, ""
    return found


def _read(written: str, options: Sequence[str], question: str) -> tuple[int, str]:
    """Return the choice and its rule in what ``own_answer`` left of a text."""
    marked = evened(without_fields(written).replace("**", ""))
    exact = _exact_words(marked, options)
    words = OptionWords.of(options, exact)
    bare, excluded = plainly(without_markup(without_fields(written)) or marked, words)
    fields = list(_fields(written, words))
    claims = [
        *(claim for claim in fields if claim.rule not in (MARKED_FALSE, BESIDE)),
        *_whole(bare, words, options),
        *(Claim(0, frozenset([i]), "words") for i in exact),
    ]
    if not any(claim.rule in _WHOLE for claim in claims):
        claims += _in_part(bare, words, question)
    standing = _standing(claims, bare)
    certain = [claim for claim in standing if not claim.alike]
    chosen = frozenset[int]().union(*(claim.choices for claim in certain))
    if len(chosen) != 1 or any(not chosen <= claim.choices for claim in standing):
        return UNREADABLE, ""
    (choice,) = chosen
    denied = _denied(bare).union(excluded, *(claim.choices for claim in fields if claim.rule == MARKED_FALSE))
    if any(claim.rule == BESIDE and choice not in claim.choices for claim in fields):
        return UNREADABLE, ""
    if not 0 <= choice < len(options) or choice in denied:
        return UNREADABLE, ""
    since = 0 if len(standing) == len(claims) else min(claim.start for claim in standing)
    whole = any(claim.rule in _WHOLE for claim in claims)
    if in_doubt(bare, choice, words, since, max(claim.start for claim in standing), whole):
        return UNREADABLE, ""
    return choice, certain[0].rule


def parse_choice(text: str, options: Sequence[str], question: str = "") -> int:
    """Return the index that ``read_choice`` reads, or -1."""
    return read_choice(text, options, question)[0]


def _exact_words(marked: str, options: Sequence[str]) -> frozenset[int]:
    """Return the options that the whole text is with all mark-up: titles differ in nothing else."""
    line = " ".join(marked.split())
    return frozenset(
        i for i, option in enumerate(options) if line and " ".join(option.replace("**", "").split()) == line
    )


def _fields(written: str, words: OptionWords) -> Iterator[Claim]:
    for rule, content in answer_fields(written):
        named = words.named(without_markup(without_fields(content)))
        if named:
            # An answer field is read last: nothing that a text says before it takes it back.
            yield Claim(len(written), frozenset().union(*named.values()), rule)


def _whole(text: str, words: OptionWords, options: Sequence[str]) -> list[Claim]:
    claims = [
        Claim(0, found, rule, alike=rule == "words" and len(found) > 1) for rule, found in words.named(text).items()
    ]
    # Options that are numbers are chosen by their words alone: "2" must not mean the third of 1, 2 and 4.
    if not claims and _NUMBER.fullmatch(text) and not any(_NUMBER.search(option) for option in options):
        claims.append(Claim(0, frozenset([int(text)]), "index"))
    return claims


def _in_part(text: str, words: OptionWords, question: str) -> list[Claim]:
    sentences = Sentences(text, words, question)
    claims = list(sentences.claims())
    lines = _lines(sentences, words)
    listed = _listed(sentences).union(*(line.choices for line in lines if line.rule == "line"))
    beginning = _beginning(sentences, words)
    parts = [*lines, beginning] if beginning else lines
    if beginning is None:
        parts += _label_and_explanation(sentences, words)
    claims += [claim for claim in parts if claim.rule == "letter line" or not listed - claim.choices]
    return claims or stated(text, words, question)


def _lines(sentences: Sentences, words: OptionWords) -> list[Claim]:
    """Return what the lines of a text name that hold nothing else; a letter alone is no point of a list."""
    claims, start = [], 0
    for place, line in enumerate(sentences.lines):
        if len(sentences.lines) > 1 and min(place, len(sentences.lines) - place) < _MOST_LOOKED_AT:
            named = words.named(line)
            if words.within(named):
                rule = "letter line" if "letter" in named else "line"
                claims.append(Claim(start, frozenset().union(*named.values()), rule))
        start += len(line) + 1
    return claims


def _listed(sentences: Sentences) -> frozenset[int]:
    """Return the options that a text lists by their letters and words: then none of these is an answer."""
    found = frozenset[int]()
    for label in _first(_LISTED.finditer(sentences.text)):
        found |= sentences.words_from(label.end()) & {letter_index(label[1])}
    return found


def _beginning(sentences: Sentences, words: OptionWords) -> Claim | None:
    """Return what stands before an explanation in the same line: a letter and its words, or words alone."""
    text = sentences.text
    label = _LABEL_THEN_MORE.match(text) or _LABEL_THEN_REASON.match(text) or _LABEL_AND_SPACE.match(text)
    if label:
        index = letter_index(label[1] or label[2])
        following = sentences.words_from(label.start(3))
        if index in following:
            return sentences.claim(0, frozenset([index]), "beginning", sentences.words_end(label.start(3)))
        if label.re is not _LABEL_AND_SPACE and following:
            return Claim(0, following | {index}, "beginning")
    for end in _first(_WORDS_END.finditer(text)):
        named = words.named(text[: end.start()])
        found = frozenset().union(*(named.get(rule, frozenset()) for rule in ("words", "letter and words")))
        # "2. The picture ..." is more likely the second point of a list.
        if found and (_HAS_LETTER.search(text[: end.start()]) or end.group() != "."):
            return sentences.claim(0, found, "beginning", end.start())
    return None


def _label_and_explanation(sentences: Sentences, words: OptionWords) -> list[Claim]:
    """Return what a letter claims that begins a text and is explained: ``B. The text speaks to someone.``

    A letter beside others, each explained, claims nothing; nor does ``A: Hello``, which somebody may say.
    """
    text = sentences.text
    label = _LABEL_THEN_MORE.match(text) or _LABEL_THEN_REASON.match(text)
    if not label or _ABOUT.match(label[3].strip()) or _ONE_MORE_LABEL.search(text):
        return []
    letter = label[1] or label[2]
    at_lines = {one[1] for one in _first(_LABEL_LINES.finditer(text))}
    labels = {next(filter(None, one.groups())) for one in _first(_LABELS.finditer(text))}
    if (at_lines | labels) - {letter}:
        return []
    said = label[3].strip()
    if ":" in text[: label.start(3)] and (letter == "A" or not _EXPLAINS.match(said)):
        # "A:" may mark an answer: what it says and the letter are at odds.
        return [Claim(0, NOBODY | {0}, "beginning")] if letter == "A" else []
    if said.endswith("?") and not _PIECE_END.search(said[:-1]):
        return []
    pieces = [label.start(3), *(end.end() for end in _first(_PIECE_END.finditer(text, label.start(3))))]
    found = frozenset([letter_index(letter)]).union(*map(sentences.following, pieces))
    return [Claim(0, found, "beginning")] if min(found) < words.count else []


def _standing(claims: Sequence[Claim], text: str) -> list[Claim]:
    """Return the claims that no correction takes back and no later final answer overrules."""
    if any(claim.rule in _WHOLE for claim in claims):
        return list(claims)
    standing = list(claims)
    for correction in _CORRECTION.finditer(text):
        if any(claim.start < correction.start() for claim in claims):
            standing = [claim for claim in standing if claim.start >= correction.start()]
    final = [claim.start for claim in standing if claim.final]
    if final and max(final) == max(claim.start for claim in standing):
        standing = [claim for claim in standing if claim.start >= max(final)]
    return standing


def _denied(text: str) -> frozenset[int]:
    letters = (next(letter for letter in denial.groups() if letter) for denial in _DENIAL.finditer(text))
    return frozenset(map(letter_index, letters))


def _first(found: Iterable[T]) -> list[T]:
    return list(islice(found, _MOST_LOOKED_AT))
