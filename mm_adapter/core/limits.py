"""Ranges of numbers in words, for help and for messages."""


def limits_text(
    gt: float | None = None, ge: float | None = None, lt: float | None = None, le: float | None = None
) -> str:
    """Return a range in words, such as ``at least 0 and less than 1``; empty where there is no limit."""
    limits = (("greater than", gt), ("at least", ge), ("less than", lt), ("at most", le))
    return " and ".join(f"{words} {_number(value)}" for words, value in limits if value is not None)


def _number(value: float) -> str:
    return "2 ** 63" if value == 2**63 else f"{value:g}"
