"""What a model wrote as its answer: without its reasoning, special tokens, other speakers' turns and mark-up."""

import html
import re
from collections.abc import Iterator

from mm_adapter.eval.answer_tags import without_reasoning

# Full-width letters, digits and marks are the ASCII ones moved by a constant; circled letters stand for "(A)".
_WIDE: dict[int, int | str | None] = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_WIDE |= {0x3010: "[", 0x3011: "]", 0x2018: "'", 0x2019: "'", 0x201A: "'", 0x201B: "'", 0x00A0: " "}
# Behind these marks no space is written in Chinese and Japanese; rules look for one at the end of a sentence.
_WIDE |= {0x3002: ". ", 0xFF0C: ", ", 0xFF01: "! ", 0xFF1B: "; ", 0xFF1F: "? "}
_WIDE |= {0x24B6 + place: f"({chr(ord('A') + place)})" for place in range(26)}
_WIDE |= dict.fromkeys((0xFEFF, 0x200B, 0x200C, 0x200D, 0x2060, 0x00AD, 0x200E, 0x200F))

_FINAL_CHANNEL = re.compile(r"<\|channel\|>\s*final[^<]{0,40}<\|message\|>")
_OTHER_CHANNEL = re.compile(r"<\|channel\|>\s*\w+[^<]{0,40}<\|message\|>")
_END_OF_TURN = re.compile(
    r"</s>|<(?:eos|end_of_turn|end_of_utterance|pad)>|\[(?:EOS|SEP|PAD)\]"
    r"|<\|(?!end_header)[^|<>\n]{0,40}(?:end|eot|eom|eos|return|pad)[^|<>\n]{0,40}\|>",
    re.IGNORECASE,
)
_TOKEN = re.compile(
    r"<\|[^|<>\n]{1,60}\|>|<s>|<(?:bos|unk|sep|cls|start_of_turn|image|img|extra_id_[0-9]+)>|\[(?:CLS|BOS|UNK)\]|<</?SYS>>|<0x0A>",
    re.IGNORECASE,
)
_OTHERS_PIECE = re.compile(r"\s*(?:user|system|human)\s*(?:\n|:)", re.IGNORECASE)
_OWN_MARK = re.compile(
    r"(?:#{1,6} ?)?(?:assistant|model|ai|bot|chatbot|gpt|response|output|reply)(?: ?:|(?=\n)) ?\s*", re.IGNORECASE
)
_ROLE = re.compile(
    r"(?:\A|(?<=\s))[*_]{0,3}(?:(?P<other>User|USER)|(?P<own>Assistant|ASSISTANT|AI|Bot|Chatbot|GPT))[*_]{0,3}\s?:(?!\w)"
)
_ASKED_AGAIN = re.compile(r"\A\s*(?:Q|Question)\s?[0-9]{0,3}\s?[:.][^\n]{0,2000}\n\s*A\s?[:.]\s*(?=\S)")
_STRUCK_OR_TOKEN = re.compile(r"<s>((?:(?!</?s>).){1,400}?)</s>", re.IGNORECASE | re.DOTALL)
_WORD = re.compile(r"\w")
_NEXT_TURN = re.compile(r"\n(?:#{1,6} ?)?(?:user|human|instruction|question|q)\s*[0-9]{0,3}\s*:", re.IGNORECASE)

_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]{0,300}\}){0,300}\}){0,300})\}")
_ANSWER_TAG = re.compile(
    r"<(answer|conclusion|final_answer|choice|option)>(.{0,2000}?)</\1>|\[answer\](.{0,2000}?)\[/answer\]",
    re.IGNORECASE | re.DOTALL,
)
_OPEN_ANSWER_TAG = re.compile(r"<(?:answer|conclusion|final_answer)>([^<>]{0,2000})$", re.IGNORECASE)
_STRAY_ANSWER_TAG = re.compile(r"</?(?:answer|conclusion|final_answer|choice|option)>|\[/answer\]", re.IGNORECASE)
_ANSWER_HEADING = re.compile(r"\[(answer|final answer)\] ?:?", re.IGNORECASE)
_JSON_FIELD = re.compile(
    r"[{,]\s*([\"'])(?:(?:final|correct|selected|predicted)[_ ])?(?:answer|choice|option|prediction|letter)\1\s*:\s*"
    r"(?:\"([^\"\n]{0,2000})\"|'([^'\n]{0,2000})'|([^\"'\s,{}]{1,40}))\s*(?=[,}])",
    re.IGNORECASE,
)

_FALSE = r"(?:false|no|0(?![.0-9])|wrong|incorrect|not correct|invalid|failed?|rejected)"
_FALSE_FIELD = re.compile(
    r"[\"']?\b(?:is[_ ]?)?(?:correct(?:ness)?|right|valid|true|accurate|verdict|status|judge?ment|evaluation|grade"
    rf"|accepted)[\"']?\s*[:=]\s*[\"']?{_FALSE}\b",
    re.IGNORECASE,
)
_WRONG_FIELD = re.compile(
    r"[\"']?\b(?:is[_ ]?)?(?:wrong|incorrect|false|invalid|rejected)[\"']?\s*[:=]\s*[\"']?(?:true|yes|1)\b",
    re.IGNORECASE,
)
_OBJECT = re.compile(r"\{[^{}]*\}")
_BESIDE = 2000  # characters on either side of an answer in JSON that are looked at
_DEEPEST = 3  # levels of objects beside it
MARKED_FALSE = "marked as false"
"""The rule of an answer that stands in an object that calls itself false."""

_JSON_WORDS = re.compile(
    r"[{,]\s*([\"'])(?:(?:answer|option|choice)[_ ]?)?(?:text|words|content|value)\1\s*:\s*"
    r"([\"'])([^\"'\n]{1,2000})\2\s*(?=[,}])",
    re.IGNORECASE,
)
BESIDE = "JSON words"
"""The rule of words that stand beside an answer in JSON: they may contradict it and are no answer themselves."""

_LATEX_FONT = re.compile(r"\\(?:text(?:bf|it|rm|tt|sf)?|math(?:rm|bf|it|sf)|emph|underline|mbox|bm)\s*\{([^{}]*)\}")
_LATEX_MATHS = re.compile(r"\$\$?([^$\n]{1,300})\$\$?")
_LATEX_MARK = re.compile(r"\\[()\[\]]|\\(?:quad|qquad|,|;|!)")
_STRUCK = re.compile(r"~~[^~\n]{1,300}~~|<(del|strike)>[^<>\n]{0,300}</\1>", re.IGNORECASE)
_LINE_TAG = re.compile(r"</?(?:br|p|div|li|ul|ol|h[1-6]|pre|center|tr|table)(?:\s[^<>]{0,200})?/?>", re.IGNORECASE)
_TAG = re.compile(
    r"</?(?:b|strong|i|em|u|span|code|mark|font|sup|sub|big|small|td|a|tt)(?:\s[^<>]{0,200})?/?>", re.IGNORECASE
)
_LETTER_TAG = re.compile(r"<([A-Za-z])>")
_FENCE = re.compile(r"```(?:[a-z]{0,12}(?=\n))?", re.IGNORECASE)
# Arrows, ticks and dots around an answer; a cross would say that it is wrong.
_DECORATION = re.compile(r"^(?:[→➔⇒✓✔✅👉∴▪●▁Ġ…\ufe0f]|[-=]+>|\.{2,})\s*|\s*(?:[✓✔✅…\ufe0f]|\.{2,})$", re.MULTILINE)
_LINE_MARK = re.compile(r"^[ \t]*(?:#{1,6}[ \t]*|>[ \t]+|[-*•+][ \t]+)+", re.MULTILINE)
_STARS = re.compile(r"\*{2,}|(?<!\w)\*|\*(?!\w)")
_UNDERSCORES = re.compile(r"(?<![\w_])_{1,3}([^_\n]{1,300})_{1,3}(?![\w_])")
_QUOTES = re.compile(r"[\"“”„‟«»‹›「」『』`]")
_SINGLE_QUOTES = re.compile(r"(?<!\w)'([^'\n]{1,300})'(?!\w)")


def own_answer(text: str) -> str:
    """Return what is the answer of ``text``: no byte-order mark, no reasoning, no special tokens, no other turn.

    An answer inside reasoning that is never closed is none. A closing mark without an opening one ends reasoning that
    began in the prompt. Full-width letters become plain ones. Mark-up stays.
    """
    text = _plain(text)
    final = list(_FINAL_CHANNEL.finditer(text))
    text = text[final[-1].end() :] if final else _OTHER_CHANNEL.split(text)[0]
    return _own_turn(without_reasoning(text))


def _plain(text: str) -> str:
    return html.unescape(text.translate(_WIDE))


def without_struck(text: str) -> str | None:
    """Return ``text`` without what stands between ``<s>`` and ``</s>``, where that may be struck out.

    These are also the first and the last token of a sequence: a text that is one such pair and nothing else is whole.
    None is returned where nothing may be struck out.
    """
    text = _plain(text)
    rest, pairs = _STRUCK_OR_TOKEN.subn(" ", text)
    outside = _TOKEN.sub(" ", _END_OF_TURN.sub(" ", rest))
    return rest if pairs > 1 or (pairs and _WORD.search(outside)) else None


def _own_turn(text: str) -> str:
    # A model that runs on past its end token answers no more: what follows is another turn.
    text = _of_instructions(text)
    pieces = [_TOKEN.sub("\n", piece).strip() for piece in _END_OF_TURN.split(text)]
    said = [piece for piece in pieces if piece]
    text = next((piece for piece in said if not _OTHERS_PIECE.match(piece)), said[0] if len(said) == 1 else "")
    while mark := _OWN_MARK.match(text):
        text = text[mark.end() :]
    text = _of_roles(_ASKED_AGAIN.sub("", text, count=1))
    following = _NEXT_TURN.search(text)
    return text[: following.start()] if following and text[: following.start()].strip() else text


def _of_instructions(text: str) -> str:
    """Return what answers the first ``[INST] ... [/INST]``; nothing where several are answered from there on."""
    answers = re.split(r"\[/INST\]", text)
    before = answers[0].split("[INST]")[0] if len(answers) == 1 or "[INST]" in answers[0] else ""
    if len(answers) == 1 or _WORD.search(_TOKEN.sub(" ", _END_OF_TURN.sub(" ", before))):
        return before
    return answers[1] if len(answers) == 2 else ""


def _of_roles(text: str) -> str:
    """Return what stands before "User:", or behind the one "Assistant:" that answers where the text begins with it."""
    roles = list(_ROLE.finditer(text))
    first = next((role for role in roles if role["other"]), None)
    if first is None:
        return text
    before = text[: first.start()].rstrip()
    if _WORD.search(before):
        return before
    ends = [role.start() for role in roles[1:]] + [len(text)]
    own = [text[role.end() : end] for role, end in zip(roles, ends, strict=True) if role["own"]]
    return own[0] if len(own) == 1 else ""


def answer_fields(text: str) -> Iterator[tuple[str, str]]:
    """Yield ``(rule, content)`` of what is set apart as the answer: ``boxed``, ``answer tag``, ``JSON``.

    An answer in JSON beside ``"is_correct": false`` and the like has ``MARKED_FALSE`` for a rule, words beside an
    answer have ``BESIDE``.
    """
    for match in _BOXED.finditer(text):
        yield "boxed", match[1]
    for match in _ANSWER_TAG.finditer(text):
        yield "answer tag", match[2] if match[2] is not None else match[3]
    unclosed = _OPEN_ANSWER_TAG.search(text)
    if unclosed:
        yield "answer tag", unclosed[1]
    some_false = bool(_FALSE_FIELD.search(text) or _WRONG_FIELD.search(text))
    for match in _JSON_FIELD.finditer(text):
        content = next(group for group in match.groups()[1:] if group is not None)
        # The marks that open and close the field stand for the object that it is in.
        start, end = match.start() + 1, match.end()
        yield MARKED_FALSE if some_false and _marked_as_false(text, start, end) else "JSON", content
    for match in _JSON_WORDS.finditer(text):
        yield BESIDE, match[3]


def _marked_as_false(text: str, start: int, end: int) -> bool:
    """Say whether an object of JSON around ``text[start:end]`` says of itself that it is false."""
    before, after = text[max(0, start - _BESIDE) : start], text[end : end + _BESIDE]
    for _ in range(_DEEPEST):
        before, after = _OBJECT.sub(" ", before), _OBJECT.sub(" ", after)
    around = f"{before} {after}"
    return bool(_FALSE_FIELD.search(around) or _WRONG_FIELD.search(around))


def without_fields(text: str) -> str:
    """Return ``text`` with the content of answer fields in the place of the fields."""
    return _ANSWER_HEADING.sub(r"\n\1: ", _STRAY_ANSWER_TAG.sub("\n", _BOXED.sub(r"\1", text)))


def without_markup(text: str) -> str:
    """Return ``text`` without LaTeX, markdown, HTML and quotes; blank lines and runs of spaces are evened out."""
    text = _STRUCK.sub(" ", _plain(text))
    for _ in range(3):
        text = _LATEX_FONT.sub(r"\1", text)
    text = _LATEX_MARK.sub(" ", _LATEX_MATHS.sub(r"\1", text))
    text = _lone_letters(text)
    text = _FENCE.sub("\n", _TAG.sub("", _LINE_TAG.sub("\n", text)))
    text = _STARS.sub("", _LINE_MARK.sub("", text))
    text = _SINGLE_QUOTES.sub(r"\1", _QUOTES.sub("", _UNDERSCORES.sub(r"\1", text)))
    return evened(_DECORATION.sub("", evened(_LINE_MARK.sub("", text))))


def _lone_letters(text: str) -> str:
    # "<B>" is an answer in brackets where nothing closes it as bold.
    closed = {letter.lower() for letter in re.findall(r"</([A-Za-z])>", text)}
    return _LETTER_TAG.sub(lambda tag: tag[0] if tag[1].lower() in closed else f"({tag[1]})", text)


def evened(text: str) -> str:
    """Return ``text`` without blank lines, each line with single spaces."""
    lines = (" ".join(line.split()) for line in text.splitlines())
    return "\n".join(line for line in lines if line)
