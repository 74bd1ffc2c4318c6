"""What somebody else says in an answer text: a teacher, a student, Anna; in a dialogue, or as quoted."""

import re

_NAMES = (
    "Alex|Alice|Amy|Andrew|Anna|Anne|Ben|Bill|Bob|Carl|Carol|Carlos|Charlie|Chen|Chris|Clara|Dan|Daniel|Dave|David|Emily|"
    "Emma|Eric|Eva|Frank|Fred|George|Grace|Hannah|Harry|Helen|Henry|Jack|Jake|James|Jane|Jenny|Jim|Joe|John|Kate|Kim|"
    "Laura|Lee|Leo|Lily|Linda|Lisa|Lucy|Luke|Maria|Mark|Mary|Max|Mia|Mike|Nick|Nina|Olivia|Paul|Peter|Rob|Robert|Sam|"
    "Sara|Sarah|Sophie|Steve|Sue|Susan|Tim|Tina|Tom|Tony|Will"
)
_ROLES = (
    "teacher|student|pupil|professor|prof|tutor|instructor|coach|class|mother|mom|mum|dad|father|parent|child|kid|boy|girl|"
    "man|woman|son|daughter|brother|sister|grandma|grandpa|doctor|nurse|patient|friend|customer|client|agent|interviewer|"
    "interviewee|host|guest|moderator|narrator|judge|jury|examiner|expert|reviewer|critic|player|speaker|person|voice|"
    "scientist|detective|officer|lawyer|witness|boss|manager|employee|everyone|somebody|human|system|he|she|they|lehrer(?:in)?|"
    "schüler(?:in)?|老师|学生|先生|生徒"
)
_KNOWN = (
    rf"(?:(?i:(?:the |my )?(?:{_ROLES}))(?: [0-9]{{1,2}}| [A-Z])?|(?:Mr|Mrs|Ms|Dr|Miss)\.? [A-Z]\w{{1,20}}|{_NAMES})"
)
# Where somebody begins to speak: at the beginning of a line or behind a sentence.
_BEGINS = r"(?:^|(?<=[.!?:;\"'”’])[ \t]+)[*_>#\-\s]{0,6}"
_SPEAKS = re.compile(
    rf"{_BEGINS}(?:[\[(]?{_KNOWN}[\])]?[*_]{{0,3}}\s?(?::[*_]{{0,3}}(?=\s|$)|\s[–—-]\s)|[\[(]{_KNOWN}[\])](?=\s))",
    re.MULTILINE,
)
_MAY_SPEAK = re.compile(
    rf"{_BEGINS}(?P<name>[A-Z]\w{{1,20}}(?: [A-Z]\w{{0,20}}| [0-9]{{1,2}})?)[*_]{{0,3}}:(?=\s)", re.MULTILINE
)
_HEADINGS = re.compile(
    r"(?:.*(?:answer|option|choice|response|result|output|step|reason|question|explanation|rationale|hint|fact|note|text|"
    r"picture|image|word|clue|evidence|proof|rule|part|point|line|case|source|key|summary|context|thought|idea|check|task"
    r"|verdict|status|grade|score|confidence|given|find|therefore|because|however|example|assistant|model|bot|user|system)s?"
    r"|.*(?:tion|sion|ment|sis|ing|ence|ance|ity|ness|ism|our|or)s?)(?: \w+)?",
    re.IGNORECASE,
)
# An answer under its own heading ends what others say.
_OWN_HEADING = re.compile(
    r"^[*_#>\s]{0,6}(?:(?:the |my )?(?:final |correct |right )*answer|assistant|solution|conclusion)[*_]{0,3}\s?:",
    re.I | re.M,
)
_VERB = (
    r"(?:said|says|replied|replies|answered|answers|asked|asks|thinks|claims|claimed|whispered|shouted|argued|argues)"
)
_WHO = r"(?:he|she|they|(?:the|my|his|her|a|one) \w{1,20}|[A-Z]\w{1,20})"
_QUOTED = re.compile(
    rf"[^.!?\n]{{0,300}}[,.!?][\"'”’»]?\s(?:{_VERB} {_WHO}|{_WHO} {_VERB})\b[^.!?\n]{{0,300}}[.!?]?"
    rf"|\b{_WHO} {_VERB}:\s?[^\n]{{0,300}}|[^.!?\n]{{0,300}}\b[Aa]ccording to {_KNOWN}\b[^.!?\n]{{0,300}}[.!?]?"
)
_DASH = re.compile(r"(?:\A|\n|(?<=[.!?])\s)[-–—]\s(?=[^\n]*)")
_LONGEST = 20_000  # characters of a text that is looked at


def without_speakers(text: str) -> str | None:
    """Return ``text`` without what somebody else says in it; None where nobody seems to speak.

    Args:
        text: an answer, by ``answer_text.own_answer``; mark-up may be in it.
    """
    if len(text) > _LONGEST:
        return None
    left = _without_dashes(_QUOTED.sub(" ", text))
    left = _without_dialogue(left)
    speaks = _SPEAKS.search(left)
    while speaks:
        heading = _OWN_HEADING.search(left, speaks.end())
        left = left[: speaks.start()] + ("\n" + left[heading.start() :] if heading else "")
        speaks = _SPEAKS.search(left)
    return None if left == text else left


def _without_dialogue(text: str) -> str:
    """Return ``text`` without the lines of speakers, where two names or more that are no headings begin to speak."""
    speakers = [found for found in _MAY_SPEAK.finditer(text) if not _HEADINGS.fullmatch(found["name"])]
    if len({found["name"] for found in speakers}) < 2:
        return text
    for found in reversed(speakers):
        end = text.find("\n", found.end())
        text = text[: found.start()] + (text[end:] if end >= 0 else "")
    return text


def _without_dashes(text: str) -> str:
    """Return nothing of a dialogue whose speeches begin with dashes, one of them a question."""
    begins = list(_DASH.finditer(text))
    if len(begins) < 2 or begins[0].start() or "?" not in text:
        return text
    return ""
