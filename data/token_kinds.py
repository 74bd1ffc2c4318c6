"""What each token of an encoded question belongs to: question, context, options, an answer, or what frames them."""

from collections.abc import Sequence

from mm_adapter.data.encoding import EncodedQuestion, Encoder, encode_parts
from mm_adapter.data.templates import QuestionTemplate

KINDS = ("frame", "context", "question", "options", "answer")
"""``frame``: the begin token, a chat format's tokens and the cue "Answer:"; ``answer``: the options to be scored."""


def token_kinds(encoded: EncodedQuestion, template: QuestionTemplate, tokenizer: Encoder) -> tuple[str, ...]:
    """Return one of ``KINDS`` for each token of prefix and options, as they are packed without a tail.

    Pieces are told apart by how many tokens the text before their end has. A token that goes over such an end, which
    tokenizers that keep lines apart never make, counts to the piece in which it begins or the one before.

    Args:
        encoded: from ``template`` and ``tokenizer``.
    """
    prompt = template.render(encoded.question)
    frame, options = template.frame, template.listed_options(encoded.question)
    parts = (prompt.before, prompt.context, prompt.after)
    before, context, after = map(len, encode_parts(tokenizer, parts, starts=frame is None))
    # The question's own words stand before the context, or after it and before options and cue.
    asked = prompt.after.removesuffix("\n".join(line for line in (options, template.cue) if line))
    listed = asked + options
    starts = frame is None and not prompt.before and not prompt.context
    asked_end, listed_end = (_count(tokenizer, text, starts, after) for text in (asked, listed))
    opening, closing = (tokenizer.begin, ()) if frame is None else (frame.opening, frame.closing)
    runs = [
        ("frame", len(opening)),
        ("question", before),
        ("context", context - encoded.dropped),
        ("question" if template.context_first else "frame", asked_end),
        ("options", listed_end - asked_end),
        ("frame", after - listed_end + len(closing)),
        ("answer", sum(map(len, encoded.options))),
    ]
    return tuple(kind for kind, count in runs for _ in range(count))


def _count(tokenizer: Encoder, text: str, starts: bool, most: int) -> int:
    encode = tokenizer.encode if starts else tokenizer.encode_continuation
    tokens: Sequence[int] = encode(text) if text else ()
    return min(len(tokens), most)
