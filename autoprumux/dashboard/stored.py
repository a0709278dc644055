"""Notes and plots in the form in which optuna-dashboard keeps them: attributes of the study.

A text is cut into pieces, `note_str:0` and so on, and a note has a number of its version, by which
the dashboard knows that somebody else changed what a user is editing. The dashboard's own
functions read all attributes of the study for each note, and importing them takes seconds, because
of its importance plots and samplers.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, TypeAlias

Owner: TypeAlias = int | None
"""Optuna's identifier of the trial that a note is of; None for that of the study."""
Attributes: TypeAlias = Mapping[str, Any]

PREFIX = "dashboard:"
"""Of the keys of all attributes that optuna-dashboard knows."""

_LONGEST = 2045
"""Characters in a piece, the most that Optuna's oldest tables hold."""
_NOTE = re.compile(rf"{PREFIX}(?:(\d+):)?note_(?:ver|str:\d+)")


def notes_by_owner(attributes: Attributes) -> dict[Owner, dict[str, Any]]:
    """Yield those of the attributes that are notes, by what they are notes of."""
    notes: defaultdict[Owner, dict[str, Any]] = defaultdict(dict)
    for key, value in attributes.items():
        if found := _NOTE.fullmatch(key):
            notes[None if found[1] is None else int(found[1])][key] = value
    return dict(notes)


def note_text(stored: Attributes, owner: Owner) -> str:
    """Yield the text of a note from its attributes; none if there is no such note."""
    pieces = (f"{note_prefix(owner)}str:{place}" for place in range(len(stored)))
    return "".join(str(stored.get(piece, "")) for piece in pieces)


def note_prefix(owner: Owner) -> str:
    """Yield what the keys of a note's attributes, and no others', start with."""
    return f"{PREFIX}note_" if owner is None else f"{PREFIX}{owner}:note_"


def note_attributes(text: str, owner: Owner, stored: Attributes) -> dict[str, Any]:
    """Yield the attributes of a note that takes the place of what is stored of it."""
    version = f"{note_prefix(owner)}ver"
    pieces = _pieces(text, f"{note_prefix(owner)}str:")
    return {version: int(stored.get(version, 0)) + 1} | pieces


def plot_prefix(identifier: str) -> str:
    """Yield what the keys of a plot's attributes, and no others', start with."""
    return f"{PREFIX}plot_data:{identifier}:"


def plot_attributes(identifier: str, figure_json: str) -> dict[str, Any]:
    """Yield the attributes of a plot from its text in JSON."""
    return dict(_pieces(figure_json, plot_prefix(identifier)))


def _pieces(text: str, prefix: str) -> dict[str, str]:
    starts = range(0, len(text), _LONGEST)
    return {f"{prefix}{i}": text[k : k + _LONGEST] for i, k in enumerate(starts)}
