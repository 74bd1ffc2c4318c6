"""What stands between marks and tags and is no answer: reasoning, plans, drafts and whatever else is set apart by name.

A tag of any name sets its content apart, closed or not, but for those that answers are written in (``<response>``) and
those of HTML and of tokenizers.
"""

import re

# Reasoning: <think>, [THINK], <|begin_of_thought|>, each closed by its own kind; a closing one may stand alone, because
# some chat templates write the opening one into the prompt. The bracket behind an opening mark may be missing.
_REASONING = (
    r"[<◁‹⟨〈](?P<close>/?)\s*(?:(?:\w{1,20}:)?"
    r"(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|analysis|scratch_?pad|rationale|cot|summary|caption)"
    r"|(?:\w{1,20}[_ ])?(?:think(?:ing)?|thoughts?|reasoning|monologue|deliberation)(?:[_ ](?:process|steps?|trace))?)"
    r"(?:\s+\w{1,20}=[^<>\n]{0,60})?(?:\s*[>▷›⟩〉]|[ \t]*(?=\n|$))"
    # Quotes of other languages, in which an option may stand too.
    r"|[《«](?P<quoted>/?)(?:think|thinking)[》»]"
    r"|\[(?P<end>/?)(?:think(?:ing)?|thoughts?|reasoning|plan(?:ning)?|drafts?|notes?|scratch_?pad)\](?!\()"
    r"|<\|(?:begin|(?P<over>end))_of_thought\|>"
    r"|<\|(?:start_thinking|think(?:ing)?|(?P<done>end_thinking|/think(?:ing)?))\|>"
    r"|<unused94>(?:thought\b)?|(?P<unused><unused95>)"
    r"|\AThinking(?:\.{3}|…)\s*\n|(?P<told>^(?:\.{3}|…)\s?done thinking\.?$)"
)
_CLOSES = ("close", "quoted", "end", "over", "done", "unused", "told", "shut")
_TAG = (
    r"<(?P<shut>/?)(?P<name>[A-Za-z][\w.:-]{1,40})"
    r"(?:\s+[\w:-]{1,30}=(?:\"[^\"<>\n]{0,200}\"|'[^'<>\n]{0,200}'|[^\s<>\"']{1,100})){0,8}\s*(?P<empty>/?)>"
)
_MARK = re.compile(rf"{_REASONING}|{_TAG}", re.IGNORECASE | re.MULTILINE)
# The same as a block of code or a part to be unfolded, which other blocks may follow.
_BLOCK = re.compile(
    r"```(?:think(?:ing)?|thoughts?|reasoning)\n.*?(?:```|\Z)"
    r"|<details\b(?:[^<>]{0,60}\b(?:reasoning|thinking)\b[^<>]{0,60}>"
    r"|[^<>]{0,60}>\s*<summary>\s*(?:think|thought|reasoning|chain of thought)[^<>]{0,60}</summary>)"
    r".*?(?:</details>|\Z)",
    re.IGNORECASE | re.DOTALL,
)
# Read elsewhere: answers, what is struck out, and special tokens.
_READ_LATER = re.compile(
    r"answer|conclusion|final_answer|choice|option|del|strike|details|br|p|div|li|ul|ol|h[1-6]|pre|center|tr|table"
    r"|strong|em|span|code|mark|font|sup|sub|big|small|td|tt"
    r"|bos|eos|pad|unk|sep|cls|mask|image|img|video|audio|sys|eot|eod|sop|eop|gmask|nl|0x[0-9a-f]{2}"
    r"|(?:start|end|begin)_of_\w+|extra_id_\w+|unused\w*|reserved\w*|fake_token\w*|global-img|row_\w+|im_\w+|image_\w+",
    re.IGNORECASE,
)
_TRANSPARENT = re.compile(
    r"(?:(?:the|my|your|our|correct|right|best|selected|chosen|predicted|model|full|final)[_-]?)*"
    r"(?:answers?|choice|option|response|output|result|solution|prediction|reply|conclusion|letter|ans|final)"
    r"|assistant|completion|content|message|text|xml|root|json"
    r"|html|head|body|main|article|section|header|footer|tbody|thead|tfoot|th|hr|blockquote|dl|dt|dd|figure"
    r"|kbd|samp|var|dfn|abbr|cite|ins|wbr|math|m[inor]|mrow|mtext|mstyle",
    re.IGNORECASE,
)
_PAIR = re.compile(r"\[(?P<name>[A-Za-z][\w -]{0,30})\](?P<held>.{0,4000}?)\[/(?P=name)\]", re.IGNORECASE | re.DOTALL)
_BBCODE = re.compile(r"[biu]|bold|italic|center|color|size|font|code", re.IGNORECASE)
_PAIRS_READ_LATER = re.compile(r"answer|inst|sys|(?:think|thought|reason)\w*", re.IGNORECASE)
_LETTER = re.compile(r"\w")
_REASON = "reasoning"
_DEEPEST = 50  # tags within tags


def without_reasoning(text: str) -> str:
    """Return ``text`` without what is set apart as no answer; what a tag holds that is never closed is none either."""
    kept: list[str] = []
    text = _PAIR.sub(_bare, _BLOCK.sub("\n", text))
    within: list[str] = []
    start = 0
    for mark in _MARK.finditer(text):
        name = (mark["name"] or _REASON).lower()
        closes = any(mark[group] for group in _CLOSES)
        passed = bool(mark["name"]) and (mark["empty"] == "/" or _TRANSPARENT.fullmatch(name) is not None)
        if mark["name"] and _READ_LATER.fullmatch(name):
            continue
        # "The answer is <blue>" holds nothing apart.
        if mark["name"] and not closes and not passed and not _LETTER.search(text, mark.end()):
            continue
        if not within:
            kept.append(text[start : mark.start()])
        start = mark.end()
        if passed:
            continue
        if closes and not within:
            kept.clear()
        elif closes and name in within:
            del within[within.index(name) :]
        elif not closes and name not in within and len(within) < _DEEPEST:
            within.append(name)
    if not within:
        kept.append(text[start:])
    return "\n".join(kept)


def _bare(pair: re.Match[str]) -> str:
    """Return what is left of ``[name]...[/name]``: bold words, an answer as it stands, nothing of a plan."""
    if _BBCODE.fullmatch(pair["name"]):
        return pair["held"]
    return pair[0] if _PAIRS_READ_LATER.fullmatch(pair["name"]) else "\n"
