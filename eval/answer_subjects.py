"""Whether a sentence such as "The ball is blue" speaks of what was asked, as far as words tell."""

import re
from dataclasses import dataclass

_WORD = re.compile(r"[^\W_]+(?:-[^\W_]+)*")
_POSSESSIVE = re.compile(r"['’]s?(?![^\W_])")
# Words that say nothing of what a sentence is about.
_STOPS = re.compile(
    r"the|a|an|this|that|these|those|of|in|on|at|to|for|by|with|from|and|or|as|is|are|was|were|be|been|being|it|"
    r"its|here|there|above|below|shown|seen|given|used|use|depicted|described|displayed|pictured|presented|which|"
    r"what|who|whose|whom|how|why|where|when|do|does|did|can|could|will|would|has|have|had|i|think|believe|guess|"
    r"see|know|say|so|thus|therefore|hence|then|clearly|probably|likely|definitely|obviously|certainly|indeed|"
    r"simply|actually|really|based|uses|illustrates|demonstrates|represents|equals|following|correct|provided|"
    r"information|choose|select|pick|identify|find|complete|determine|name|called|looking|look|first|second|third|fourth|fifth|"
    r"sixth|1st|2nd|3rd|4th|5th|6th|one|option|choice"
)
# What a text is shown as: "the picture", "this passage"; it is what was asked about where it uses or shows something.
_SHOWN = re.compile(r"picture|image|photo|photograph|text|passage|sentence|paragraph|poem|line|example|diagram|map")
# What options are: "The colour is blue" answers whatever has a colour.
_KINDS = re.compile(r"colou?r|shape|number|total|figure|speech|answer")
_SORT = re.compile(r"type|kind|sort|form|part|name|piece")
_SPELLED = {"color": "colour", "gray": "grey"}
_ASKS = re.compile(r"\b(?:is|are|was|were|do|does|did|can|could|will|would|has|have|had)\b", re.IGNORECASE)
_PLACED = re.compile(
    r"\s*(?:there|(?:on|in|at|under|of|by|near|above|below|behind|between|inside|beside|next to|from|with|for)\b)",
    re.IGNORECASE,
)
_WHICH = re.compile(r"(?:.*[,:] )?(?:which|what|whose|who|how many)\b", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.!?:])\s+|\n")
_SHOWS = re.compile(r"\b(?:uses|illustrates|demonstrates|represents|equals|called|named)$", re.IGNORECASE)
_LAST_CLAUSE = re.compile(
    r".*(?:[,;:]|\b(?:and|but|so|while|whereas|because|since|that)\b)(.*)", re.IGNORECASE | re.DOTALL
)
_TOPIC = re.compile(r"\b(?:the|a|an|this|that|my|your|his|her|our|their|its) (?P<words>[^\W\d_]+)", re.IGNORECASE)


@dataclass(frozen=True)
class _Asked:
    """What a question asks for.

    Attributes:
        kinds: words for the kind of thing: "colour" in "What colour is the ball next to the box?".
        things: of what, in the question's order: ball, next, box.
        loose: the kind itself is what the rest tells apart: "Which animal is on the mat?"
        last: the last place among the things at which a subject may begin.
    """

    kinds: frozenset[str]
    things: list[str]
    loose: bool = False
    last: int = 0


def is_asked(subject: str, question: str) -> bool:
    """Say whether ``subject`` is what ``question`` asks about, and nothing besides.

    What was asked is "colour" and "ball" in "What colour is the ball next to the box?"; "the ball", "the colour of the
    ball" and "the ball next to the box" are, "the box" is not, nor is "the sky".

    Args:
        subject: what stands before a verb, with it.
        question: where it is unknown, kinds of things alone ("the colour") are taken to be asked.
    """
    # "The ball is next to the box and the box" goes on to something else.
    clause = _LAST_CLAUSE.fullmatch(subject)
    if clause and len(_ASKS.findall(subject)) > 1 and not is_asked(clause[1], question):
        return False
    words = _content(subject)
    shown = [word for word in words if _SHOWN.fullmatch(word)]
    words = [word for word in words if not _SHOWN.fullmatch(word)]
    asked = _asked(question)
    if any(word not in asked.kinds and word not in asked.things and not _KINDS.fullmatch(word) for word in words):
        return False
    if not words:
        return not shown or _SHOWS.search(subject.strip()) is not None
    if asked.loose and not asked.kinds.isdisjoint(words):
        return True
    places = {asked.things.index(word) for word in words if word in asked.things and word not in asked.kinds}
    if asked.loose and places:
        return False
    first = min(places, default=0)
    return first <= asked.last and places == set(range(first, first + len(places)))


def speaks_of_another(before: str, question: str) -> bool:
    """Say whether a sentence is about something that was not asked, so that "It is blue" behind it is as well."""
    topic = _TOPIC.search(before)
    return topic is not None and not is_asked(topic["words"], question) and not _SHOWN.fullmatch(topic["words"].lower())


def asked_words(question: str) -> frozenset[str]:
    """Return the words that say what is asked."""
    asked = _asked(question)
    return asked.kinds.union(asked.things)


def _asked(question: str) -> _Asked:
    sentences = [piece for piece in _SENTENCE_END.split(question.strip()) if _WORD.search(piece)]
    if not sentences:
        return _Asked(frozenset(), [])
    asked = next((piece for piece in reversed(sentences) if piece.endswith("?")), sentences[-1])
    verb = _ASKS.search(asked)
    content = list(dict.fromkeys(_content(asked[verb.end() :] if verb else asked)))
    things = [word for word in content if not _SHOWN.fullmatch(word)]
    if verb:
        kinds = frozenset(_content(asked[: verb.start()]))
        return _Asked(kinds, things, bool(kinds) and _PLACED.match(asked, verb.end()) is not None)
    if _WHICH.match(asked):
        # "Which type of force ..." asks for a force.
        count = 2 if things and _SORT.fullmatch(things[0]) else 1
        return _Asked(frozenset(things[:count]), things[count:], loose=True)
    return _Asked(frozenset(), things, last=1)


def _content(text: str) -> list[str]:
    words = (word.lower() for word in _WORD.findall(_POSSESSIVE.sub("", text)))
    return [_stem(word) for word in words if not _STOPS.fullmatch(word)]


def _stem(word: str) -> str:
    word = word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
    return _SPELLED.get(word, word)
