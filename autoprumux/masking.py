"""Text that is fit for print: no password, and no character that a terminal obeys."""

import logging
import re
from collections.abc import Iterable
from urllib.parse import unquote

HIDDEN = "***"

_PASSWORD = re.compile(r"(?<=://)(?P<user>[^\s/?#:@]*):(?P<secret>[^\s'\"`]*)@")
_TOKEN = re.compile(r"(?P<start>https?://)(?P<secret>[^\s/?#:@'\"`]+)@", re.IGNORECASE)
_OPTION = re.compile(
    r"(?P<name>[?&;](?:password|sslpassword|passfile|token|access_token|api_key)=)"
    r"(?P<secret>[^\s&;#'\"`]*)",
    re.IGNORECASE,
)
_SHORTEST = 3
"""Characters; the hidden text would garble everything else if it were shorter."""


def mask_addresses(text: str) -> str:
    """Yield `text` with the passwords and tokens of all addresses in it hidden."""
    text = _PASSWORD.sub(rf"\g<user>:{HIDDEN}@", text)
    text = _TOKEN.sub(rf"\g<start>{HIDDEN}@", text)
    return _OPTION.sub(rf"\g<name>{HIDDEN}", text)


def secrets_in(address: str) -> tuple[str, ...]:
    """Yield the passwords and tokens of an address, as written and decoded, the longest first."""
    found = {match["secret"] for kind in _KINDS for match in kind.finditer(address)}
    spelt = found | {unquote(secret) for secret in found}
    return tuple(sorted((s for s in spelt if len(s) >= _SHORTEST), key=len, reverse=True))


def printable(text: str) -> str:
    """Yield `text` with control characters spelt out, line feeds and tabs left as they are."""
    if text.isprintable():
        return text
    return "".join(
        mark
        if mark.isprintable() or mark in "\n\t"
        else mark.encode("unicode_escape").decode("ascii")
        for mark in text
    )


def fit_for_print(text: str, secrets: Iterable[str] = ()) -> str:
    """Yield `text` without passwords, known or in addresses, and without control characters."""
    text = mask_addresses(text)
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return printable(text)


class MaskingFormatter(logging.Formatter):
    """A formatter that hides passwords in messages and tracebacks.

    Args:
        layout: See `logging.Formatter`.
        secrets: Texts to hide wherever they occur.
    """

    def __init__(self, layout: str, secrets: Iterable[str] = ()) -> None:
        super().__init__(layout)
        self._secrets = tuple(secrets)

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        return fit_for_print(super().format(record), self._secrets)


_KINDS = (_PASSWORD, _TOKEN, _OPTION)
