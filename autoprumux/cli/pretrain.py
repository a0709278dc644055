"""`autoprumux pretrain`."""

from pathlib import Path
from typing import Annotated

import typer

from autoprumux.api.search import pretrain_model
from autoprumux.cli.options import Verbose, in_one_sentence, split_list
from autoprumux.errors import UsageError

PRETRAIN_EPILOG = """\b
Example:
  autoprumux pretrain --widths 1,2,5,10 --out my-model
"""


@in_one_sentence("Finished phases stay; the same command goes on at the last checkpoint.")
def pretrain(
    *,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Gets a folder n{N} for each width.")],
    widths: Annotated[
        str, typer.Option(metavar="N,N,...", help="Mux widths; 1 is always made first.")
    ] = "1,2,5,10",
    seed: Annotated[int, typer.Option(help="Seed of texts, weights and groups.")] = 0,
    verbose: Verbose = False,
) -> None:
    """Make the built-in model: phases 1 and 2 from scratch on made-up text.

    Takes an hour or more on two cores. Run again, it takes up where it stopped.
    """
    numbers = split_list(widths, int)
    if not isinstance(numbers, list):
        raise UsageError(f"`--widths` must be whole numbers such as `1,2,5`, got `{widths}`.")
    pretrain_model(out, numbers, seed=seed)
    print(f"The model is in {out}.")
