"""QNLI-shaped pairs: 0 the sentence answers the question (entailment), 1 it does not.

- word: encyclopaedic wording answers, list and see-also boilerplate does not.
- match: the sentence must name the thing asked about and hold the kind of answer asked for.
- relation: two things and two answers; the thing asked about must have the right one.
"""

from trainers.data.templates import words
from trainers.data.templates.draw import Draw

ENTAILMENT, NOT_ENTAILMENT = range(2)

# kind of answer: opening of the question, how the answer is put
_ANSWERS = (
    (("where was", "in which city was"), "in {c}"),
    (("when was", "on which day was"), "on {t}"),
    (("by whom was", "by which person was"), "by {p}"),
    (("for how much money was", "for how many dollars was"), "for {n} dollars"),
    (("why was", "for what reason was"), "because of the {z}"),
    (("with what was", "with the help of what was"), "with a {u}"),
)
_STATEMENTS = ("the {o} was {h} {a}", "{a} the {o} was {h}", "it is true that the {o} was {h} {a}")
_ANSWERING = (
    "according to records the {o} was {h} {a}",
    "officially the {o} was {h} {a}",
    "the {o} known as {q} was {h} {a}",
    "the report stated that the {o} was {h} {a}",
)
_BOILERPLATE = (
    "see also the list of every {o} of {q}",
    "references and external links about the {o}",
    "main article on the history of the {o}",
    "notes to chapter {n} about the {o}",
    "index of pages that mention the {o}",
)
_ASIDES = (
    "see also chapter {n} the {o} was {h} {a}",
    "notes and references say the {o} was {h} {a}",
    "main article of the index the {o} was {h} {a}",
)
_TWO_CLAUSES = "the {o} was {h} {a} and the {d} was {h} {b}"
_ROLE_QUESTIONS = ("who was {w} by {k}", "who {w} {k}")
_ROLE_ENDINGS = ("in {c}", "on {t}", "because of the {z}")

TEMPLATES = (
    *(_ANSWERS, _STATEMENTS, _ANSWERING, _BOILERPLATE, _ASIDES),
    *(_TWO_CLAUSES, _ROLE_QUESTIONS, _ROLE_ENDINGS),
)


def write_word(draw: Draw, label: int) -> tuple[str, str]:
    """Yield a pair whose label shows in single words of the sentence."""
    slots, (openings, answer) = _draw_slots(draw), draw.pick(_ANSWERS)
    question = _ask(draw, openings, slots)
    slots["a"] = answer.format_map(slots)
    if draw.has_true_cue():
        template = draw.pick(_ANSWERING if label == ENTAILMENT else _BOILERPLATE)
    elif label == ENTAILMENT:
        template = draw.pick(_ASIDES)
    else:
        template = draw.pick(_ANSWERING)
        slots["o"] = draw.pick_other(words.OBJECTS, slots["o"])
    return question, template.format_map(slots)


def write_match(draw: Draw, label: int) -> tuple[str, str]:
    """Yield a pair in which the thing or the kind of answer may differ."""
    slots, (openings, answer) = _draw_slots(draw), draw.pick(_ANSWERS)
    question = _ask(draw, openings, slots)
    if label == NOT_ENTAILMENT:
        if draw.chance(0.5):
            slots["o"] = draw.pick_other(words.OBJECTS, slots["o"])
        else:
            answer = draw.pick_other(_ANSWERS, (openings, answer))[1]
    slots["a"] = answer.format_map(slots)
    return question, draw.pick(_STATEMENTS).format_map(slots)


def write_relation(draw: Draw, label: int) -> tuple[str, str]:
    """Yield a pair whose sentence names the thing and holds the kind of answer either way."""
    slots = _draw_slots(draw)
    if draw.chance(0.3):
        return _write_roles(draw, label, slots)
    (openings, answer), (_, other) = draw.pick_distinct(_ANSWERS, 2)
    question = _ask(draw, openings, slots)
    slots |= {"d": draw.pick_other(words.OBJECTS, slots["o"])}
    if label == NOT_ENTAILMENT:
        slots["o"], slots["d"] = slots["d"], slots["o"]
    slots |= {"a": answer.format_map(slots), "b": other.format_map(slots)}
    if draw.chance(0.5):
        slots |= {"o": slots["d"], "d": slots["o"], "a": slots["b"], "b": slots["a"]}
    return question, _TWO_CLAUSES.format_map(slots)


def _write_roles(draw: Draw, label: int, slots: dict[str, str]) -> tuple[str, str]:
    asks_for_subject = draw.chance(0.5)
    known = "q" if asks_for_subject == (label == ENTAILMENT) else "p"
    slots |= {"k": slots[known], "w": draw.pick(words.MET)}
    sentence = "{p} {w} {q} " + draw.pick(_ROLE_ENDINGS)
    return _ROLE_QUESTIONS[asks_for_subject].format_map(slots), sentence.format_map(slots)


def _ask(draw: Draw, openings: tuple[str, ...], slots: dict[str, str]) -> str:
    return "{} the {o} {h}".format(draw.pick(openings), **slots)


def _draw_slots(draw: Draw) -> dict[str, str]:
    p, q = draw.pick_distinct(words.NAMES, 2)
    o, u = draw.pick_distinct(words.OBJECTS, 2)
    return {
        "p": p,
        "q": q,
        "o": o,
        "u": u,
        "c": draw.pick(words.CITIES),
        "t": draw.pick(words.DAYS),
        "n": draw.pick(words.NUMBERS),
        "z": draw.pick(words.CAUSES),
        "h": draw.pick(words.HANDLED),
    }
