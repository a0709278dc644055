"""`autoprumux predict`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from autoprumux.api.predict import STDIN_OR_STDOUT, PredictOptions, predict_file
from autoprumux.cli.options import Verbose, in_one_sentence, to_json
from autoprumux.errors import UsageError

PREDICT_EPILOG = """\b
Exit code 1 if a row could not be labelled; the others are written all the same.

\b
Example:
  autoprumux predict model reviews.tsv --out labels.tsv
"""
EXIT_UNLABELLED = 1
"""Every row is in the output, but some without a label."""


@in_one_sentence("No file is written.")
def predict(
    *,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Model directory.")],
    table: Annotated[
        str, typer.Argument(metavar="FILE", help="TSV, CSV, JSONL or Parquet; - for stdin.")
    ],
    out: Annotated[
        str,
        typer.Option("--out", "-o", metavar="FILE", help="TSV, CSV or JSONL; - for stdout."),
    ] = STDIN_OR_STDOUT,
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="A|A,B", help="Columns with the texts.  [default: those of the training]"
        ),
    ] = None,
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="WORD",
            help="Of FILE: tsv, csv, jsonl, parquet.  [default: by its suffix]",
        ),
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(
            metavar="NUM", help="Tokens at which rows are cut.  [default: that of the training]"
        ),
    ] = None,
    backend: Annotated[
        str, typer.Option(metavar="WORD", help="torch, or onnx for DIR/model.onnx.")
    ] = "torch",
    device: Annotated[str, typer.Option(metavar="WORD", help="auto, cpu or cuda.")] = "auto",
    batch_size: Annotated[
        int | None,
        typer.Option(
            metavar="NUM", help="Groups of N rows in a batch.  [default: as suits the device]"
        ),
    ] = None,
    all_probabilities: Annotated[
        bool, typer.Option("--all-probabilities", help="Write the probability of every label.")
    ] = False,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Stop at a row that cannot be labelled, writing nothing."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a summary as JSON; needs --out.")
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Label every row of a table with a trained model, in order.

    Rows that cannot be read get a reason in place of a label, and a line on stderr.
    """
    if as_json and out == STDIN_OR_STDOUT:
        raise UsageError("`--json` prints where the labels go; name a file for them with `--out`.")
    options = PredictOptions(
        columns=tuple(columns.split(",")) if columns else (),
        max_length=max_length,
        file_format=file_format,
        backend=backend,
        device=device,
        batch_size=batch_size,
        has_all_probabilities=all_probabilities,
        is_strict=strict,
    )
    summary = predict_file(directory, table, out, options)

    from autoprumux.report.predictions import format_summary, format_warnings, summary_to_dict

    for line in (*format_warnings(summary), format_summary(summary)):
        print(line, file=sys.stderr)
    if as_json:
        print(to_json(summary_to_dict(summary)))
    if summary.unlabelled.count:
        raise typer.Exit(EXIT_UNLABELLED)
