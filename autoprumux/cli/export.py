"""`autoprumux export`."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from autoprumux.api.export import choose_stored, require_options, write_export
from autoprumux.cli.options import (
    CacheDir,
    Json,
    Storage,
    StoredTask,
    StudyName,
    Verbose,
    in_one_sentence,
    show,
    to_json,
)
from autoprumux.config import DEFAULT_STORAGE

EXPORT_EPILOG = """\b
Example:
  autoprumux export --task qnli --budget 2 --out model
"""


def _left_behind(options: Mapping[str, Any]) -> str:
    out = options["out"]
    if out.exists():  # the signal came after the last step
        return f"The model is in {out}."
    return f"Nothing is in {out}; the same command starts anew."


@in_one_sentence(_left_behind)
def export(
    *,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The new directory.")],
    task: StoredTask = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="B",
            help="Largest accuracy loss in percentage points; exports the answer of query."
            "  [default: the study's]",
        ),
    ] = None,
    trial: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="Export this trial instead.")
    ] = None,
    study: StudyName = None,
    storage: Storage = DEFAULT_STORAGE,
    artifacts: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|s3://BUCKET/PREFIX",
            help="Where the models of other machines are, as given to search.",
        ),
    ] = None,
    cache_dir: CacheDir = None,
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Also model.onnx, checked and timed in onnxruntime.")
    ] = False,
    licence: Annotated[
        str | None,
        typer.Option(
            "--license",
            metavar="WORD",
            help="For the card, such as mit.  [default: apache-2.0 if all is built in]",
        ),
    ] = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Write a measured model as a Hugging Face directory with its card.

    Everything is checked against the trained checkpoint before the directory is there.
    """
    require_options(out, with_onnx=onnx, licence=licence)
    choice = choose_stored(
        task,
        budget,
        trial=trial,
        study=study,
        storage=storage,
        artifacts=artifacts,
        cache_dir=cache_dir,
    )
    outcome = write_export(choice, out, with_onnx=onnx, licence=licence, announce=_tell)

    from autoprumux.exporting.summary import export_to_dict, format_export

    form = export_to_dict if as_json else format_export
    shown = form(outcome.choice, outcome.result, outcome.directory, outcome.files)
    show(to_json(shown) if as_json else str(shown))


def _tell(text: str) -> None:
    print(f"{text} ...", file=sys.stderr)
