"""Hypothesis strategies: right inputs, changed in a few places, and inputs from nowhere."""

from collections.abc import Iterator
from random import Random

from hypothesis import strategies as st

from fuzz.seeds import HURTFUL, seeds

_pieces = (
    st.sampled_from([word.encode("utf-8", "surrogatepass") for word in HURTFUL])
    | st.text(max_size=8).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.integers(-(2**70), 2**70).map(lambda number: str(number).encode())
    | st.floats().map(lambda number: str(number).encode())
    | st.binary(max_size=8)
)


@st.composite
def changed(draw: st.DrawFn, target: str) -> bytes:
    """A right input with one to four pieces replaced, put in, left out or doubled."""
    content = draw(st.sampled_from(seeds(target)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.sampled_from((0, 0, 1, 2, 8, 40, 400))))
        middle = draw(_pieces | st.just(content[start:end] * 2))
        content = content[:start] + middle + content[end:]
    return content


@st.composite
def changed_values(draw: st.DrawFn) -> bytes:
    """Lines of the database target: columns that exist, with values of any kind."""
    lines = draw(st.lists(st.sampled_from(seeds("database")), min_size=1, max_size=3))
    values = _pieces | st.sampled_from((b"[]", b"{}", b'["a"]', b'{"search": {"widths": [1]}}'))
    return b"\n".join(line.partition(b"=")[0] + b"=" + draw(values) for line in lines)


def inputs(target: str) -> st.SearchStrategy[bytes]:
    """Inputs of a target."""
    random = st.binary(max_size=200) | st.text(max_size=100).map(
        lambda text: text.encode("utf-8", "surrogatepass")
    )
    if target == "database":
        return changed_values() | changed_values() | changed(target)
    return changed(target) | changed(target) | changed(target) | random


def random_inputs(target: str, state: int, number: int) -> Iterator[bytes]:
    """Yield inputs as `changed` makes them, from the state of a random generator."""
    random = Random(state)
    for _ in range(number):
        content = random.choice(seeds(target))
        if target == "database":
            place = content.partition(b"=")[0]
            yield place + b"=" + _random_piece(random)
            continue
        for _ in range(random.randint(1, 4)):
            start = random.randint(0, len(content))
            end = min(len(content), start + random.choice((0, 0, 1, 2, 8, 40, 400)))
            middle = content[start:end] * 2 if random.random() < 0.2 else _random_piece(random)
            content = content[:start] + middle + content[end:]
        yield content


def _random_piece(random: Random) -> bytes:
    kind = random.randrange(4)
    if kind == 0:
        return random.choice(HURTFUL).encode("utf-8", "surrogatepass")
    if kind == 1:
        return random.randbytes(random.randint(0, 8))
    if kind == 2:
        return str(random.randint(-(2**70), 2**70) >> random.randrange(70)).encode()
    return "".join(chr(random.randrange(32, 0x2FF)) for _ in range(random.randint(0, 8))).encode()
