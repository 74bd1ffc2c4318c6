"""Jinja's sandbox with bounds: a template of a model's files can neither run for long nor make anything huge.

The sandbox of Jinja keeps Python itself out of reach. A few loops within one another, or ``'x' * 10**10``, would still
take hours or all memory.
"""

import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from types import FrameType
from typing import Any

from jinja2 import nodes  # a dependency of torch itself
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

SECONDS = 2.0
"""That a template may run; those of published models take a few milliseconds."""
MOST = 1 << 23
"""Letters of a text, or items of a list, that a template may make."""
_LARGEST, _BITS = 10_000, 256  # of a width or a count; of a number
_WIDTH = re.compile(r"\d{5}|\*")


class _Generator(CodeGenerator):
    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        """Have texts that are joined by ``~`` measured first."""
        self.write("environment.joined((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """An environment whose operations refuse to make what is larger than ``MOST``."""

    code_generator_class = _Generator
    intercepted_binops = frozenset(("*", "**", "+", "%"))

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.filters = {name: _bounded(name, function) for name, function in self.filters.items()}
        self.concat = self.joined  # type: ignore[method-assign]

    def joined(self, parts: Iterable[Any]) -> str:
        """Return texts one behind the other."""
        found, room = [], MOST
        for part in parts:
            found.append(str(part))
            room -= len(found[-1])
            _check(room >= 0, "a text")
        return "".join(found)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Return what an operator makes of two values."""
        sizes = [len(value) if hasattr(value, "__len__") else None for value in (left, right)]
        if operator == "%" and isinstance(left, str):
            _check(not _WIDTH.search(left) and _small(right), "a formatted text")
        elif operator == "+" and None not in sizes:
            _check(sum(size or 0 for size in sizes) <= MOST, "a sum")
        elif operator in ("*", "**") and isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() * max(1, right) if operator == "**" else left.bit_length() + right.bit_length()
            _check(bits <= _BITS, "a number")
        elif operator == "*" and sizes != [None, None]:
            times = right if sizes[1] is None else left
            _check(isinstance(times, int) and (sizes[0] or sizes[1] or 0) * times <= MOST, "a product")
        return super().call_binop(context, operator, left, right)

    def call(self, context: Context, obj: Any, /, *arguments: Any, **named: Any) -> Any:
        """Call a function of the template; methods of texts make no huge ones."""
        method = getattr(obj, "__wrapped__", obj)  # the sandbox puts a function of its own around str.format
        text = getattr(method, "__self__", None)
        if isinstance(text, str):
            arguments = _measured(method.__name__, (text, *arguments), named)[1:]
        return super().call(context, obj, *arguments, **named)


class GenerationBlock(Extension):
    """``{% generation %}`` marks what the assistant says; as text it is what stands in it."""

    tags = {"generation"}  # noqa: RUF012 - as the library declares it

    def parse(self, parser: Parser) -> nodes.Node:
        """Return the block as a call, so that what is set in it stays in it."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

    def _said(self, caller: Callable[[], str]) -> str:
        return caller()


def _bounded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def measured(*arguments: Any, **named: Any) -> Any:
        return function(*_measured(name, arguments, named), **named)

    return measured


def _measured(name: str, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the arguments of a filter or a method of texts.

    Raises:
        SecurityError: what it makes could be larger than may be.
    """
    values = [*arguments, *named.values()]
    _check(all(map(_small, values)), f"what {name} makes")
    texts = [value for value in values if isinstance(value, str)]
    if name.startswith("format"):
        _check(not any(map(_WIDTH.search, texts)), "a formatted text")
    if name == "join":
        arguments = tuple(list(value) if isinstance(value, Iterator) else value for value in arguments)
        between = max(map(len, texts), default=0)
        for items in (value for value in arguments if isinstance(value, list | tuple | str)):
            own = len(items) if isinstance(items, str) else sum(len(str(item)) for item in items)
            _check(own + len(items) * between <= MOST, "a joined text")
    if name in ("replace", "indent"):
        product = 1
        for text in texts:
            product *= max(1, len(text))
        _check(product <= 8 * MOST, f"what {name} makes")
    return arguments


def _small(value: Any) -> bool:
    return all(map(_small, value)) if isinstance(value, tuple) else not isinstance(value, int) or value <= _LARGEST


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise SecurityError(f"{what} is larger than a prompt can be")


@contextmanager
def limited_time(seconds: float = SECONDS) -> Iterator[None]:
    """End a template that runs for longer, whatever it does: between two of its lines, and where it calls itself.

    Raises:
        SecurityError: within the block.
    """
    end, before = time.monotonic() + seconds, sys.gettrace()

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename != "<template>":
            return None
        if time.monotonic() > end:
            raise SecurityError(f"it runs for over {seconds:g} seconds")
        return trace

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)
