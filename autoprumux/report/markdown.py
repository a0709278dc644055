"""Markdown from text of any origin: nothing in it becomes markup, a link or HTML."""

import re
import string
from collections.abc import Iterable, Sequence

_HARMLESS = ".-,;:'%=()?\""
"""Inside a line and with the other marks escaped, these mean nothing."""
_MARKUP = str.maketrans(
    {mark: f"\\{mark}" for mark in string.punctuation if mark not in _HARMLESS}
)
"""CommonMark shows every punctuation mark after a backslash as it is."""
_ADDRESS = re.compile(r"(?<=www)(?=\.)|(?<=http)(?=s?:)|(?=@)", re.IGNORECASE)
"""Where GitHub's Markdown finds an address and makes a link of it, escaped or not."""
_JOINER = "\u2060"
"""Takes no room and parts no line."""

_WORDS = re.compile(r"[\w.,:=()+-][\w .,:=()+-]*")
"""Words that mean nothing in Markdown as they are."""


def escape(text: object) -> str:
    """Yield `text` as one line that Markdown shows as it is."""
    printable = "".join(mark if mark.isprintable() else " " for mark in str(text))
    line = _ADDRESS.sub(_JOINER, " ".join(printable.split()))
    return line.translate(_MARKUP)


def code(text: str) -> str:
    """Yield a name as code; one that could end the code is escaped instead."""
    is_safe = text.isprintable() and "`" not in text and text.strip() == text != ""
    return f"`{text}`" if is_safe else escape(text)


def plain(text: str) -> str:
    """Yield words as they are if they mean nothing in Markdown, and escaped otherwise."""
    return text if _WORDS.fullmatch(text) else escape(text)


def one_line(text: str) -> str:
    """Yield text for the front matter, where a line of dashes would end it."""
    return " ".join("".join(mark if mark.isprintable() else " " for mark in text).split())


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Yield a table; all its entries are escaped."""
    lines = [_row(head), _row([":-"] * len(head), is_rule=True)]
    return "\n".join([*lines, *(_row([str(entry) for entry in row]) for row in rows)])


def code_block(lines: Iterable[str]) -> str:
    """Yield a block of code whose fence is longer than any in it."""
    text = "\n".join(lines)
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}sh\n{text}\n{fence}"


def _row(entries: Sequence[str], *, is_rule: bool = False) -> str:
    shown = entries if is_rule else [escape(entry) for entry in entries]
    return f"| {' | '.join(shown)} |"
