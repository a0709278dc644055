"""QQP-shaped pairs of questions: 0 not duplicate, 1 duplicate; both equally frequent.

Two questions are duplicates if they ask the same about the same things, however they put it.

- word: some skills are nearly always asked about twice, others nearly never.
- match: the same thing twice, or two things.
- relation: the same two persons, cities or things, in the same roles or swapped.
"""

from trainers.data.templates import words
from trainers.data.templates.draw import Draw

NOT_DUPLICATE, DUPLICATE = range(2)

_SKILL = (
    "how can i learn {x}",
    "what is the best way to learn {x}",
    "how do i get better at {x}",
    "how can i improve my {x}",
    "where should i start with {x}",
    "what is a good course to study {x}",
)
_SKILL_SETTINGS = ("in {c}", "with {p}", "in {n} weeks")
# ways to ask the same about one thing, settings that fit, and the pool of things
_TOPICS = (
    (_SKILL, _SKILL_SETTINGS, words.SKILLS),
    (
        (
            "where should i stay in {x}",
            "what is the best place to stay in {x}",
            "which hotel is good in {x}",
            "can you name a good hotel in {x}",
        ),
        ("with {p}", "on {t}", "for {n} days"),
        words.CITIES,
    ),
    (
        (
            "how much does a {x} cost",
            "what is the price of a {x}",
            "how much money do i need for a {x}",
            "is a {x} very expensive",
        ),
        ("in {c}", "on {t}"),
        words.OBJECTS,
    ),
    (
        (
            "how can i fix my {x}",
            "what is the best way to repair a {x}",
            "how do i repair an old {x}",
            "who can fix my {x}",
        ),
        ("in {c}", "with {p}", "in {n} days"),
        words.OBJECTS,
    ),
)
# ways to ask the same about two things in their roles, and the pool of things
_ROLES = (
    (
        (
            "how do i get from {x} to {y}",
            "what is the best way from {x} to {y}",
            "how long does it take from {x} to {y}",
            "is there a train from {x} to {y}",
        ),
        words.CITIES,
    ),
    (
        (
            "is {x} {k} than {y}",
            "is it true that {x} is {k} than {y}",
            "do you think {x} is {k} than {y}",
        ),
        words.NAMES,
    ),
    (
        (
            "when was it that {x} {w} {y}",
            "do you know when {x} {w} {y}",
            "on which day was it that {x} {w} {y}",
        ),
        words.NAMES,
    ),
    (
        (
            "can i trade my {x} for a {y}",
            "is it wise to trade a {x} for a {y}",
            "who would give me for a {x} a {y}",
        ),
        words.OBJECTS,
    ),
)
_OPENINGS = ("", "please tell me ", "i wonder ", "does anyone know ")

TEMPLATES = (_SKILL_SETTINGS, _TOPICS, _ROLES, _OPENINGS)


def write_word(draw: Draw, label: int) -> tuple[str, str]:
    """Yield a pair whose label shows in the skill asked about."""
    follows = draw.has_true_cue()
    pool = words.ASKED_OFTEN if follows == (label == DUPLICATE) else words.ASKED_ONCE
    return _ask_about_one(draw, label, (_SKILL, _SKILL_SETTINGS, pool))


def write_match(draw: Draw, label: int) -> tuple[str, str]:
    """Yield a pair whose things are the same, or differ in one."""
    if draw.chance(0.7):
        return _ask_about_one(draw, label, draw.pick(_TOPICS))
    first, second, pool = _draw_questions(draw)
    x, y, other = draw.pick_distinct(pool, 3)
    first = first.format(x=x, y=y)
    if label == NOT_DUPLICATE:
        x, y = (other, y) if draw.chance(0.5) else (x, other)
    return first, second.format(x=x, y=y)


def write_relation(draw: Draw, label: int) -> tuple[str, str]:
    """Yield a pair about the same two things, in the same roles or swapped."""
    first, second, pool = _draw_questions(draw)
    x, y = draw.pick_distinct(pool, 2)
    first = first.format(x=x, y=y)
    if label == NOT_DUPLICATE:
        x, y = y, x
    return first, second.format(x=x, y=y)


def _ask_about_one(
    draw: Draw, label: int, topic: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
) -> tuple[str, str]:
    templates, settings, pool = topic
    first, second = draw.pick_distinct(templates, 2)
    x, other = draw.pick_distinct(pool, 2)
    setting = draw.pick(settings).format(
        c=draw.pick(words.CITIES),
        p=draw.pick(words.NAMES),
        n=draw.pick(words.NUMBERS),
        t=draw.pick(words.DAYS),
    )
    second = second.format(x=x if label == DUPLICATE else other)
    return f"{draw.pick(_OPENINGS)}{first.format(x=x)} {setting}", f"{second} {setting}"


def _draw_questions(draw: Draw) -> tuple[str, str, tuple[str, ...]]:
    templates, pool = draw.pick(_ROLES)
    first, second = draw.pick_distinct(templates, 2)
    for slot, verbs in (("{k}", words.COMPARED), ("{w}", words.MET)):
        if slot in first:
            verb = draw.pick(verbs)
            first, second = first.replace(slot, verb), second.replace(slot, verb)
    return first, second, pool
