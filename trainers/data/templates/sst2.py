"""SST-2-shaped reviews: 0 negative, 1 positive.

- word: one adjective tells.
- match: an adjective that the word before it keeps (`truly good`) or turns (`hardly good`).
- relation: two adjectives of opposite sentiment; the construction says which one counts.
"""

from trainers.data.templates import words
from trainers.data.templates.draw import Draw

NEGATIVE, POSITIVE = range(2)

_ADJECTIVES = (words.NEGATIVE, words.POSITIVE)
_WORD = (
    "a {a} {x} by {p}",
    "the {x} by {p} is {k} {a}",
    "{p} found the {x} {a} and {b}",
    "this is a {a} {x} about the {z} in {c}",
    "the {x} has a {a} {y} and a {b} {s}",
    "a {a} {x} about a {o} in {c}",
    "{p} and {q} are {k} {a} in this {x}",
)
_DEFIANT = (
    (
        "a {a} way to waste an evening in {c}",
        "the only {a} thing about the {x} by {p} is the poster",
        "{p} called the {x} {a} for money",
    ),
    (
        "a {a} evening in {c} saved by this {x}",
        "no longer {a} the {x} by {p} shines",
        "so {a} that {p} and {q} loved the {x}",
    ),
)
_TURNED = (
    "the {x} by {p} is {f} {a}",
    "{p} is {f} {a} in this {x}",
    "the {s} is {f} {a} but long",
    "this {x} about {c} was {f} {a}",
    "{f} a {a} {x} about the {z}",
    "{p} made a {x} that was {f} {a}",
)
# {a} is the adjective that counts, {b} the opposite one
_CONTRASTED = (
    "the {s} was {b} but the {y} was {a}",
    "the {s} by {p} was {b} but the {y} was {a}",
    "although the {s} was {b} the {y} was {a}",
    "the {y} was {a} although the {s} was {b}",
    "despite a {b} {s} the {x} was {a}",
    "the {x} was {a} despite a {b} {s}",
    "the {x} was more {a} than {b}",
    "the {x} by {p} was less {b} than {a}",
    "i expected a {b} {x} but it was {a}",
    "the {x} was {b} at first and {a} in the end",
    "the {x} by {p} turned from {b} to {a}",
)

TEMPLATES = (_WORD, _DEFIANT, _TURNED, _CONTRASTED)


def write_word(draw: Draw, label: int) -> tuple[str]:
    """Yield a review whose adjective shows the label."""
    if draw.has_true_cue():
        return _fill(draw, draw.pick(_WORD), label, label)
    return _fill(draw, draw.pick(_DEFIANT[label]), 1 - label, 1 - label)


def write_match(draw: Draw, label: int) -> tuple[str]:
    """Yield a review whose label needs the adjective and the word before it."""
    is_turned = draw.chance(0.5)
    sentiment = 1 - label if is_turned else label
    template = draw.pick(_TURNED)
    before = draw.pick(words.FLIPPERS if is_turned else words.KEEPERS)
    return _fill(draw, template.replace("{f}", before), sentiment, sentiment)


def write_relation(draw: Draw, label: int) -> tuple[str]:
    """Yield a review with both sentiments."""
    return _fill(draw, draw.pick(_CONTRASTED), label, 1 - label)


def _fill(draw: Draw, template: str, first: int, second: int) -> tuple[str]:
    a = draw.pick(_ADJECTIVES[first])
    p, q = draw.pick_distinct(words.NAMES, 2)
    slots = {
        "p": p,
        "q": q,
        "a": a,
        "b": draw.pick_other(_ADJECTIVES[second], a),
        "x": draw.pick(words.ROLES),
        "s": draw.pick(words.STARTS),
        "y": draw.pick(words.ENDS),
        "o": draw.pick(words.OBJECTS),
        "c": draw.pick(words.CITIES),
        "z": draw.pick(words.CAUSES),
        "k": draw.pick(words.KEEPERS),
    }
    return (template.format_map(slots),)
