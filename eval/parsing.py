"""Reading the chosen option out of a model's free text, by rules that a reader can check.

The rules, each looking for one thing (letters in either case; ``**`` is ignored, spaces and line ends are evened out):

- ``letter``: the whole text is a letter: ``B``, ``(B)``, ``B.``, ``B)``.
- ``words``: the whole text is an option's own words. Letter case and a full stop at the end are forgiven where that
  still points to one option only.
- ``letter and words``: the text begins with a letter and goes on with that option's words: ``B. apostrophe``,
  ``(B) apostrophe``.
- ``answer is``: a sentence begins with ``The answer is B``, ``Answer: B``, ``So the correct answer is (B)`` and ends
  there or goes on with ``because``. Nothing less will do: ``I doubt that the answer is B`` answers nothing.
- ``answer is words``: the text from such a beginning on is an option's own words: ``The answer is apostrophe.``
- ``index``: the whole text is a number, which counts the options from 0, and no option is a number itself.

Where the rules point to no option, to two different ones, or to one beyond the options, there is no answer (-1).
Nothing is guessed.
"""

import re
from collections.abc import Sequence

from mm_adapter.eval.record import UNREADABLE

_MOST_STARTS = 20
_LETTER = r"(?:\(([a-z])\)|([a-z])\)?)"
_WHOLE_LETTER = re.compile(rf"{_LETTER}[.:]?", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]{1,2}")
_LETTER_THEN_WORDS = re.compile(r"(?:\(([a-z])\)[.:]?|([a-z])[).:]) ?(.+)", re.IGNORECASE | re.DOTALL)
_ANSWER_IS = re.compile(
    r"(?:^|(?<=[.!?;:\n])|(?<=[.!?;:\n] ))"
    r"(?:(?:so|thus|therefore|hence),? )?(?:(?:the|my) )?(?:(?:final|correct|right|best) )?"
    r"(?:answer|choice|option)(?: is:?|:) ?",
    re.IGNORECASE,
)
# What may follow the letter: the end, the end of the sentence, or a reason.
_ANSWER_LETTER = re.compile(rf"{_LETTER}(?P<end>$|\n|[.!](?=$|[ \n])|,? (?:because|since)\b)", re.IGNORECASE)
# What takes an answer back or adds a second one: "A. or B.", "A. No, B.", "A. However, ...".
_SECOND_THOUGHT = re.compile(r"\W*(?:and|or|but|not|no|however|wait|actually|rather)\b", re.IGNORECASE)


def read_choice(text: str, options: Sequence[str]) -> tuple[int, str]:
    """Return the index of the option that ``text`` chooses by the rules above, and the name of the first such rule.

    Args:
        text: what a model wrote.
        options: the words of every option, in order; letter A is the first.

    Returns:
        -1 and an empty name where the text chooses none.
    """
    text = _even(text)
    if not text:
        return UNREADABLE, ""
    found = {
        "letter": _whole_letter(text),
        "words": _match_words(text, options),
        "letter and words": _letter_then_words(text, options),
        **_after_answer_is(text, options),
        "index": _whole_index(text, options),
    }
    chosen = set().union(*found.values())
    if len(chosen) != 1:
        return UNREADABLE, ""
    (choice,) = chosen
    if choice >= len(options):
        return UNREADABLE, ""
    return choice, next(rule for rule, choices in found.items() if choices)


def parse_choice(text: str, options: Sequence[str]) -> int:
    """Return the index that ``read_choice`` reads, or -1."""
    return read_choice(text, options)[0]


def _after_answer_is(text: str, options: Sequence[str]) -> dict[str, set[int]]:
    letters: set[int] = set()
    words: set[int] = set()
    # Only the end of the text can be an option's words; ignoring letter case makes them at most three times as long.
    longest = 3 * max(map(len, options), default=0) + 1
    starts = list(_ANSWER_IS.finditer(text))
    # A text that begins its answer ever anew has none; looking at each beginning would take for ever.
    for start in [start for start in starts if len(text) - start.end() <= longest][-_MOST_STARTS:]:
        words |= _match_words(text[start.end() :], options)
    for start in starts:
        letter = _ANSWER_LETTER.match(text, start.end())
        if letter and not _SECOND_THOUGHT.match(text, letter.end()):
            letters.add(_index(letter))
            if len(letters) <= 2:
                words |= _begun_words(text[letter.end() : letter.end() + longest], options)
    return {"answer is": letters, "answer is words": words}


def _begun_words(text: str, options: Sequence[str]) -> set[int]:
    """Return the options whose words the next sentence is: "The answer is A. banana" says two things."""
    sentence = re.split(r"[.\n]", text.lstrip(), maxsplit=1)[0]
    return _match_words(sentence, options) if sentence else set()


def _whole_index(text: str, options: Sequence[str]) -> set[int]:
    # Options that are numbers are chosen by their words alone: "2" must not mean the third of 1, 2 and 4.
    if not _NUMBER.fullmatch(text) or any(_NUMBER.search(option) for option in options):
        return set()
    return {int(text)}


def _whole_letter(text: str) -> set[int]:
    match = _WHOLE_LETTER.fullmatch(text)
    return {_index(match)} if match else set()


def _letter_then_words(text: str, options: Sequence[str]) -> set[int]:
    match = _LETTER_THEN_WORDS.fullmatch(text)
    return {_index(match)} & _match_words(match[3], options) if match else set()


def _match_words(text: str, options: Sequence[str]) -> set[int]:
    """Return the options whose words ``text`` is: exactly, or else with letter case and stop forgiven."""
    given = _one_line(text)
    exact = {index for index, option in enumerate(options) if _one_line(option) == given}
    return exact or {index for index, option in enumerate(options) if _plain(_one_line(option)) == _plain(given)}


def _index(match: re.Match[str]) -> int:
    letter: str = match[1] or match[2]
    return ord(letter.upper()) - ord("A")


def _even(text: str) -> str:
    lines = (_one_line(line) for line in text.splitlines())
    return "\n".join(line for line in lines if line)


def _one_line(text: str) -> str:
    return " ".join(text.replace("**", "").split())


def _plain(text: str) -> str:
    return text.casefold().removesuffix(".")
