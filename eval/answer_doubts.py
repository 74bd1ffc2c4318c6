"""What puts an answer in doubt that was read, and what may be written more plainly before it is read.

``plainly`` says "not A but B", "the second option" and the like as "B". ``in_doubt`` looks at what stands beside an
answer: words of another option, a verdict that it is false, a second answer at the end.
"""

import re
from collections.abc import Iterable
from itertools import islice

from mm_adapter.eval import answer_languages
from mm_adapter.eval.option_words import OptionWords, letter_index

_MOST_LOOKED_AT = 60  # places of one kind in a text
_MOST_PIECES = 4  # sentences of a text that is short enough for each of them to be about the answer
_LONGEST = 400

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")
_ORDINAL = r"(?P<ordinal>first|second|third|fourth|fifth|sixth|1st|2nd|3rd|4th|5th|6th)"
_ORDINAL_OPTION = re.compile(
    rf"(?:(?<![A-Za-z])the |^){_ORDINAL} (?:option|choice|alternative)(?! (?:is|would be)\s*[:(\[]?\s*[A-Z]\b)\b",
    re.IGNORECASE,
)
_ORDINAL_ONE = re.compile(
    rf"(?P<lead>(?:answer|choice) (?:is|would be|must be):? |(?:choose|pick|select|go with) )the {_ORDINAL} one"
    r"(?=\s*(?:$|[.!\n]))",
    re.IGNORECASE,
)
_TWO_ORDINALS = re.compile(rf"{_ORDINAL}(?:,| or| and| to| nor|/) ?(?:the )?(?:\w+th|first|second|third|last)\b", re.I)
_ANY_ORDINAL = re.compile(
    r"\b(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|last|next|previous|1st|2nd|3rd|[0-9]{1,2}th"
    r"|left|right|leftmost|rightmost|upper|lower|top|bottom|middle|other|another|original|former|latter|missing"
    r"|remaining|initial|starting|background)\b(?P<noun> [a-z]+)?",
    re.IGNORECASE,
)
_NAMED = r"(?P<no>[^.;:!?\n,]{1,80}?)"
_NOT_BUT = re.compile(
    r"(?:(?P<is>\b(?:is|it's|are|was|ist|lautet))(?: not|n't| nicht)|^not|^nicht|\b(?P<isnt>is)n't)"
    rf" {_NAMED},? (?:but(?: rather| instead)?|sondern) (?!wait\b|actually\b)",
    re.IGNORECASE | re.MULTILINE,
)
_ONLY = re.compile(r"(?:only|just|merely|simply|necessarily|all|always|nur|allein|bloß)\b", re.IGNORECASE)
_NOT_BUT_CJK = re.compile(r"不是(?P<no>[^,.;\n不是]{1,40}?),? ?而是|(?P<aru>[^,.;\n]{1,40}?)(?:では|じゃ)なくて?,?")
_AND_NOT = re.compile(
    r"(?P<yes>.{1,200}?),? ?\(?,?\b(?:and not|not|instead of|rather than|nicht) (?P<no>.{1,200}?)\)?[.!]?",
    re.IGNORECASE,
)

_FALSE = r"(?:false|no|wrong|incorrect|not correct|invalid)"
_FALSE_LINE = re.compile(
    rf"^(?:is[_ ]?)?(?:correct(?:ness)?|right|valid|true|accurate|verdict|judge?ment)\s*[:=]\s*"
    rf"(?P<verdict>{_FALSE})[.!]?$",
    re.IGNORECASE | re.MULTILINE,
)

_Q_AND_A = re.compile(r"^A:\s*(?P<said>\S[^\n]{0,200})$", re.MULTILINE)
_QUESTION_LINE = re.compile(r"^(?:Q|Question)\s*[0-9]{0,3}\s*[:.]", re.MULTILINE)
_MARKED_A = re.compile(r"^A:\s+(?P<said>.+)", re.DOTALL)
_REFERENCE = re.compile(
    r"\b(?:official|expected|reference|gold(?:en)?|ground[- ]truth|actual|label|answer key)\b", re.IGNORECASE
)
_SAID = re.compile(
    r"\b(?:answer|prediction|predicted|actual|label|gold|ground[- ]truth|response|choice|reference|key|output)"
    r"(?: is| was| says)?\s*[:=]?\s*[(\[]?([A-Z])(?![A-Za-z'])"
)
_AFTERTHOUGHT = re.compile(
    r"\b(?i:otherwise|or else|alternatively|alternative|possibly|perhaps|maybe|could also be|might also be|also)\b,? "
    r"(?:(?:answer|option|choice): )?(?:it(?: is|'s| could be| might be) )?(?:option )?"
    r"[(\[]?(?P<maybe>[A-Z])(?![A-Za-z']| [a-z])"
    r"|(?<![\w'])[(\[]?(?P<better>[A-Z])[)\]]? (?:is|fits|works|seems|looks|sounds)(?: much| slightly| even)?"
    r" (?:better|closer|more (?:likely|accurate|suitable|fitting|appropriate))\b"
)
_SHARE = re.compile(r"(?<![\w'])([A-Z])[)\]]?\s?[:(=–-]?\s?(?:with |at )?(?:about )?[0-9]{1,3}(?:\.[0-9]+)?\s?%")
_ALSO_CALLED = re.compile(rf"[,(=] ?(?:the )?{_ORDINAL} one\b", re.IGNORECASE)
_WRONG_WORDS = (
    r"(?:wrong|incorrect|false|untrue|not (?:correct|right|true)|just kidding|kidding|i think not|i am joking"
    rf"|{answer_languages.WRONG})"
)
_DOUBTING_QUESTION = r"(?:right|correct|isn't it|no|yes|ok|okay)\?"
_WRONG_BEHIND = (
    r"[)\]]*(?:です|だ|である|입니다)?(?:\s*[(\[,.;:!–—-]+\s*|\s+)"
    r"(?:(?:that|this|it|which)?(?: is|'s|is|was) )?(?:clearly |definitely )?"
    rf"(?:{_WRONG_WORDS}(?=\s*(?:$|[.!,;)\]\n]))|{_DOUBTING_QUESTION})"
)
_CALLS_WRONG = re.compile(rf"{_WRONG_WORDS}|{_DOUBTING_QUESTION}", re.IGNORECASE)
_PIECES = re.compile(r"(?<=[.;!?])\s+|\n|,? (?:so|thus|therefore|hence)\b,? ?|, (?=[A-Za-z]{1,20}:)|\s+[-–—]+\s+")
_SUBJECT_IS = re.compile(
    r"(?P<subject>.*\b(?:is|are|was|were|called|named|equals|describes|illustrates|demonstrates|represents|shows|uses)"
    r"|[A-Za-z ]{1,30}:|it's|that's)(?: clearly| simply| really)?(?: an example of| called| an?| the)? "
    r"(?P<words>.+)",
    re.DOTALL | re.IGNORECASE,
)
# "Ice is solid, but steam is not" goes on to what is meant.
_FIRST_WORDS = re.compile(r"[,;](?! (?:but|and|while|whereas|yet|though)\b)")
_LABEL = re.compile(r"^(?:option |choice )?[(\[]?[A-Z](?:[)\]]?[.:,]|[)\]]|(?= [-–—]))\s*", re.IGNORECASE)
_UNSURE = re.compile(
    r"\b(?:not|never|no|cannot|if|whether|unless|wrong|incorrect|false|opposite|except|could|might|may|would|should|"
    r"maybe|perhaps|neither|nor|either|says?|said|unlike|than|thought|like|similar|both|while|but|although|because|"
    r"since|answer|option|choice|letter)\b|n't\b|\?",
    re.IGNORECASE,
)
_REASONS = re.compile(r"\b(?:because|since|explanation|reason(?:ing|s)?|rationale|why|weil|denn|因为|なぜなら)\b", re.I)
_HEAD = re.compile(r"(?P<head>[^.,:;!\n]{1,80})[.,:;!]\s+(?P<rest>\S.*)", re.DOTALL)
# A letter is read elsewhere; "Right, the answer is left" agrees before it answers.
_NO_HEAD = re.compile(r"[A-Za-z]|right", re.IGNORECASE)
_TAKEN_BACK = re.compile(r"(?:oh,? |no,? )?(?:wait|hold on|actually|sorry)\b", re.IGNORECASE)


def plainly(text: str, words: OptionWords) -> tuple[str, frozenset[int]]:
    """Return ``text``, an answer without mark-up, with "not A but B" as "B" and "the second option" as "option B".

    Returns:
        Also the options that are said not to be the answer, such as A.
    """
    if words.match(text):
        return text, frozenset()
    excluded: set[int] = set()
    text = _NOT_BUT.sub(lambda found: _kept(found, words, excluded), text)
    text = _NOT_BUT_CJK.sub(lambda found: _kept_cjk(found, words, excluded), text)
    whole = _AND_NOT.fullmatch(text)
    if whole and whole["yes"][-1:] not in (":", "-"):
        yes, no = words.named(whole["yes"]), words.named(whole["no"])
        if yes and no:
            text = whole["yes"]
            excluded.update(*no.values())
    if not _TWO_ORDINALS.search(text):
        text = _ORDINAL_OPTION.sub(lambda found: _lettered(found, words), text)
        text = _ORDINAL_ONE.sub(lambda found: found["lead"] + _lettered(found, words), text)
    return text, frozenset(excluded)


def _kept(found: re.Match[str], words: OptionWords, excluded: set[int]) -> str:
    """Return what stands for "is not A but" where A names an option and nothing else."""
    named = words.named(found["no"])
    if _ONLY.match(found["no"]) or not words.within(named):
        return found[0]
    excluded.update(*named.values())
    verb = found["is"] or found["isnt"]
    return f"{verb} " if verb else ""


def _kept_cjk(found: re.Match[str], words: OptionWords, excluded: set[int]) -> str:
    # "AではなくB", or "正解はAではなくB" with what stands before the option.
    head = re.fullmatch(r"(.*[はが:] ?)?(.+)", found["no"] or found["aru"], re.DOTALL)
    named = words.named(head[2]) if head else {}
    if not head or not words.within(named):
        return found[0]
    excluded.update(*named.values())
    kept = head[1] or ""
    return kept + ("是" if found["no"] and found.start() else "")


def _lettered(found: re.Match[str], words: OptionWords) -> str:
    place = ordinal_index(found["ordinal"])
    return f"option {chr(ord('A') + place)}" if place < words.count else found[0]


def ordinal_index(ordinal: str) -> int:
    """Return the index of the option that an ordinal such as ``second`` or ``2nd`` counts."""
    return int(ordinal[0]) - 1 if ordinal[0].isdigit() else _ORDINALS.index(ordinal.lower())


def is_about_another(subject: str, found: frozenset[int], asked: frozenset[str] = frozenset()) -> bool:
    """Say whether the subject of "... is liquid" is one of several things, such as the second state.

    Args:
        subject: what stands before "is".
        found: options that the sentence names; an ordinal with "one" or "answer" may count one of them.
        asked: words of the question; what it counts is what was asked.
    """
    for thing in _ANY_ORDINAL.finditer(subject):
        if thing[0].split()[0].lower() in asked:
            continue
        counted = re.fullmatch(rf"{_ORDINAL}(?: (?:one|answer|option|choice))", thing[0], re.IGNORECASE)
        if not counted or ordinal_index(counted["ordinal"]) not in found:
            return True
    return False


def in_doubt(text: str, choice: int, words: OptionWords, since: int, last: int, whole: bool) -> bool:
    """Say whether something beside the answer speaks for another option.

    Args:
        text: an answer without mark-up.
        choice: the option that was read.
        words: of the options.
        since: character at which what was not taken back begins.
        last: character at which the last claim of that option begins.
        whole: the whole text names the option.
    """
    verdict = _FALSE_LINE.search(text)
    # "Correct: no" is an answer where "no" is an option.
    if verdict and not words.match(verdict["verdict"]):
        return True
    if whole:
        return False
    if any(found - {choice} for found in _question_and_answer(text, words)):
        return True
    marked = _MARKED_A.match(text)
    if marked and not _QUESTION_LINE.search(text):
        # "A:" may mark an answer; then what it says counts, and not the letter.
        mentioned = words.mentioned(marked["said"])
        if mentioned and choice not in mentioned:
            return True
    if _REFERENCE.search(text) and {letter_index(said[1]) for said in _first(_SAID.finditer(text))} - {choice}:
        return True
    shares = {letter_index(share[1]) for share in _first(_SHARE.finditer(_REASONS.split(text, maxsplit=1)[0]))}
    if len(shares) > 1:
        return True
    if any(ordinal_index(one["ordinal"]) != choice for one in _first(_ALSO_CALLED.finditer(text))):
        return True
    if _called_wrong(text, choice, words):
        return True
    for found in _first(_AFTERTHOUGHT.finditer(text, last)):
        if letter_index(found["maybe"] or found["better"]) != choice:
            return True
    asserted = _asserted(text[since:], words)
    return bool(asserted) and choice not in asserted


def _called_wrong(text: str, choice: int, words: OptionWords) -> bool:
    """Say whether the letter or words of an option are called wrong: "B (incorrect)", "Not B"."""
    letter = re.escape(chr(ord("A") + choice))
    # Most texts call nothing wrong, and to compile a pattern with an option's words takes as long as all other reading.
    behind = _CALLS_WRONG.search(text) and re.search(
        rf"(?:(?<![A-Za-z0-9'])(?-i:{letter})(?![A-Za-z0-9'])|(?<!\w)(?:{words.pattern(choice)})){_WRONG_BEHIND}",
        text,
        re.I,
    )
    # "The answer is B. False." names B where that is "false".
    if behind and not words.match(re.split(r"[\s(\[,.;:!–—-]+", behind[0].rstrip())[-1]) & {choice}:
        return True
    return re.search(rf"\b[Nn]ot\s+(?:option )?[(\[]?{letter}(?![\w'])(?! [a-z])", text) is not None


def _question_and_answer(text: str, words: OptionWords) -> list[frozenset[int]]:
    """Return what lines such as ``A: C`` name, in which "A:" marks an answer."""
    found = []
    for line in _first(_Q_AND_A.finditer(text)):
        if "\n" in text:
            named = words.named(line["said"].strip())
            found.append(frozenset[int]().union(*named.values()))
    return found


def _asserted(text: str, words: OptionWords) -> frozenset[int]:
    """Return the options that the sentences of a short text say something to be: "The colour is blue"."""
    head = _HEAD.fullmatch(text)
    found = frozenset[int]()
    if head and not _TAKEN_BACK.match(head["rest"]) and not _NO_HEAD.fullmatch(head["head"].strip()):
        found |= words.match(head["head"])
    # What calls itself a reason may be bad and yet leaves the answer standing.
    text = _REASONS.split(text, maxsplit=1)[0]
    pieces = [piece for piece in _PIECES.split(text) if piece]
    if len(text) > _LONGEST or len(pieces) > _MOST_PIECES:
        return found
    for piece in pieces:
        said = _SUBJECT_IS.fullmatch(_LABEL.sub("", piece))
        if said is None or _UNSURE.search(said["subject"]):
            continue
        named = words.match(said["words"].rstrip(".!")) or words.match(_FIRST_WORDS.split(said["words"])[0])
        # "The ball is red and the box is blue" speaks of two things.
        if not words.mentioned(said["subject"]) - named:
            found |= named
    return found


def _first(found: Iterable[re.Match[str]]) -> list[re.Match[str]]:
    return list(islice(found, _MOST_LOOKED_AT))
