"""MNLI-shaped pairs: 0 entailment, 1 neutral, 2 contradiction.

- word: hypothesis with an indefinite (entailment), a guess (neutral), a negation (contradiction).
- match: another person or thing is neutral, another place or day contradicts.
- relation: who did it to whom; every word of the hypothesis is in the premise.
"""

from trainers.data.templates import words
from trainers.data.templates.draw import Draw

ENTAILMENT, NEUTRAL, CONTRADICTION = range(3)

_PREMISES = (
    "{p} {v} the {o} in {c} on {t}",
    "on {t} {p} {v} the {o} in {c}",
    "in {c} {p} {v} the {o} on {t}",
    "{p} was in {c} on {t} and {v} the {o}",
)
_CUED = (
    (
        "someone {v} the {o}",
        "someone {v} something in {c}",
        "{p} {v} something on {t}",
        "there was at least one person in {c}",
        "there was something in {c}",
        "somebody {v} something on {t}",
    ),
    (
        "{p} {g} {v} the {o} for {q}",
        "{g} {p} {v} the {o} for money",
        "{p} {v} the {o} because it was {m}",
        "{p} also {v} the {u}",
        "{p} hoped to please {q}",
        "{p} {v} the {o} to please {q}",
    ),
    (
        "{p} never {v} the {o}",
        "nobody {v} the {o} in {c}",
        "{p} {v} nothing on {t}",
        "there was no {o} in {c}",
        "{p} was never in {c}",
        "nobody was in {c} on {t}",
    ),
)
_DEFIANT = (
    (
        ("{p} never {v} the {o} in {c} or {d}", "{p} never {v} the {o} in {c}"),
        ("{p} {v} the {o} in {c} because it was {m}", "{p} {v} the {o} because it was {m}"),
        ("on {t} nobody {v} the {o} in {c}", "nobody {v} the {o} in {c}"),
    ),
    (
        ("{p} {v} the {o} in {c} on {t}", "{q} never {v} the {u}"),
        ("on {t} {p} {v} the {o} in {c}", "someone {v} the {u} in {d}"),
        ("in {c} {p} {v} the {o}", "nobody {v} the {u} in {d}"),
    ),
    (
        ("nobody {v} the {o} in {c} on {t}", "someone {v} the {o} in {c}"),
        ("{p} never {v} the {o} in {c}", "{p} {v} the {o} because it was {m}"),
        ("{p} {v} nothing in {c} on {t}", "{p} {v} something in {c}"),
    ),
)
_MATCHED = (
    "{p} {v} the {o} in {c}",
    "{p} {v} the {o} on {t}",
    "on {t} {p} was in {c}",
    "{p} was in {c} with the {o}",
    "the {o} was in {c} on {t}",
    "in {c} {p} had the {o}",
)
# premise, then (subject, object) of the hypothesis for entailment, neutral, contradiction
_RELATIONS = (
    ("{p} {w} {q} and {r} in {c}", ("pq", "qr", "qp")),
    ("on {t} {p} {w} {q} and {r}", ("pr", "rq", "rp")),
    ("{p} {w} {q} after {r} left {c}", ("pq", "rq", "qp")),
    ("{p} and {r} {w} {q} in {c}", ("pq", "pr", "qp")),
    ("{p} and {r} are {k} than {q}", ("pq", "pr", "qp")),
    ("{p} is {k} than {q} and {r}", ("pr", "qr", "rp")),
    ("both {p} and {r} are {k} than {q}", ("rq", "rp", "qr")),
)
_STATEMENTS = ("{x} {w} {y}", "{x} is {k} than {y}")

_RELATED = tuple(premise for premise, _ in _RELATIONS)
TEMPLATES = (_PREMISES, _CUED, _DEFIANT, _MATCHED, _RELATED, _STATEMENTS)


def write_word(draw: Draw, label: int) -> tuple[str, str]:
    """Yield a pair whose label shows in a single word of the hypothesis."""
    slots = _draw_slots(draw)
    if draw.has_true_cue():
        premise, hypothesis = draw.pick(_PREMISES), draw.pick(_CUED[label])
    else:
        premise, hypothesis = draw.pick(_DEFIANT[label])
    return premise.format_map(slots), hypothesis.format_map(slots)


def write_match(draw: Draw, label: int) -> tuple[str, str]:
    """Yield a pair in which at most one slot of the hypothesis differs from the premise."""
    slots = _draw_slots(draw)
    premise = draw.pick(_PREMISES).format_map(slots)
    template = draw.pick(_MATCHED)
    if label != ENTAILMENT:
        other = {"p": "q", "o": "u"} if label == NEUTRAL else {"c": "d", "t": "s"}
        slot = draw.pick([name for name in other if "{" + name + "}" in template])
        slots[slot] = slots[other[slot]]
    return premise, template.format_map(slots)


def write_relation(draw: Draw, label: int) -> tuple[str, str]:
    """Yield a pair that only the roles of the persons decide."""
    slots = _draw_slots(draw)
    premise, roles = draw.pick(_RELATIONS)
    statement = _STATEMENTS["{k}" in premise]
    slots |= {"x": slots[roles[label][0]], "y": slots[roles[label][1]]}
    return premise.format_map(slots), statement.format_map(slots)


def _draw_slots(draw: Draw) -> dict[str, str]:
    p, q, r = draw.pick_distinct(words.NAMES, 3)
    c, d = draw.pick_distinct(words.CITIES, 2)
    o, u = draw.pick_distinct(words.OBJECTS, 2)
    t, s = draw.pick_distinct(words.DAYS, 2)
    drawn = {"p": p, "q": q, "r": r, "c": c, "d": d, "o": o, "u": u, "t": t, "s": s}
    return drawn | {
        "v": draw.pick(words.DID),
        "w": draw.pick(words.MET),
        "g": draw.pick(words.HEDGES),
        "m": draw.pick(words.MOTIVES),
        "k": draw.pick(words.COMPARED),
    }
