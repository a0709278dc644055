"""The same targets under atheris, which changes inputs by what they reach.

`pip install atheris`, then `PYTHONPATH=tests python -m fuzz.coverage_guided TARGET -runs=100000`.
"""

import sys
import tempfile
from pathlib import Path


def main() -> None:
    import atheris

    with atheris.instrument_imports(include=["autoprumux", "trainers", "tomllib", "csv", "json"]):
        from fuzz import targets
    from fuzz.seeds import HURTFUL, seeds

    target, *options = sys.argv[1:]
    folder = Path(tempfile.mkdtemp(prefix="autoprumux-corpus-"))
    words = folder / "words.dict"
    entries = ("".join(f"\\x{byte:02x}" for byte in w.encode()[:60]) for w in HURTFUL)
    words.write_text("".join(f'"{entry}"\n' for entry in entries))
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, content in enumerate(seeds(target)):
        (corpus / str(number)).write_bytes(content)
    atheris.Setup(
        [sys.argv[0], str(corpus), f"-dict={words}", *options],
        lambda content: targets.run(target, content),
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
