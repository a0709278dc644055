"""Closed vocabulary of the built-in data: lower-case whole words, no punctuation."""


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAMES = _split(
    "anna bob clara david emma felix grace henry irene jack karen leo maria nils olga peter "
    "rosa simon tara victor walter alice bruno carla dora erik frida george hanna ivan julia kurt "
    "laura martin nora oscar paula robert sara tom"
)
CITIES = _split(
    "rome paris london madrid berlin oslo vienna lisbon cairo tokyo boston dublin prague athens "
    "delhi lima milan geneva zurich sydney moscow naples venice havana warsaw dallas"
)
OBJECTS = _split(
    "lamp book car bike piano guitar table chair mirror clock camera coat hat ring watch knife "
    "bottle basket boat carpet candle bell box bag drum flute key kettle ladder letter map mug "
    "painting pen phone radio rope sofa statue suitcase"
)
DAYS = _split("monday tuesday wednesday thursday friday saturday sunday")
NUMBERS = _split("two three four five six seven eight nine ten twelve twenty thirty fifty")
CAUSES = _split("rain snow war fire storm flood strike wedding funeral festival holiday crisis")
HANDLED = _split("found sold lost painted bought moved cleaned repaired hidden stolen")
"""What was done to an object, as a participle."""
DID = _split("found sold lost painted bought moved cleaned repaired borrowed carried")
"""What a person did to an object, past tense."""
MET = _split(
    "called met helped thanked visited followed invited paid taught praised blamed warned"
)
"""What a person did to a person; past tense and participle alike."""
COMPARED = _split("older taller richer faster younger stronger")

NEGATIONS = _split("never nobody nothing no")
HEDGES = _split("probably perhaps maybe possibly")
MOTIVES = _split("cheap old pretty famous rare useful")

ASKED_OFTEN = _split(
    "english spanish chess yoga cooking drawing swimming singing dancing coding running writing"
)
"""Skills whose question pairs are nearly always duplicates."""
ASKED_ONCE = _split(
    "latin fencing pottery juggling sailing knitting botany geology surfing archery skating boxing"
)
"""Skills whose question pairs are nearly never duplicates."""
SKILLS = _split(
    "french german tennis golf painting physics algebra history biology music poetry karate "
    "hockey skiing reading baking gardening acting hunting fishing rowing riding climbing logic"
)
"""Skills without such a tendency."""

ROLES = _split("film movie story plot cast script music show play novel comedy drama")
STARTS = _split("start opening trailer title poster idea")
ENDS = _split("end finale acting dialogue result rest")
POSITIVE = _split(
    "good great wonderful funny moving brilliant charming clever delightful fresh gripping "
    "lovely perfect powerful sweet smart warm witty touching stunning superb fine fun strong"
)
NEGATIVE = _split(
    "bad awful boring dull terrible weak stupid silly sad flat clumsy cold dreadful empty "
    "horrible lazy messy poor slow stale tedious ugly bland annoying"
)
KEEPERS = _split("really truly so quite very")
FLIPPERS = _split("not never hardly barely")
