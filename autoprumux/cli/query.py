"""`autoprumux query`."""

from autoprumux.api import stored
from autoprumux.cli.options import (
    Json,
    Storage,
    StoredBudgets,
    StoredTask,
    StudyName,
    Verbose,
    in_one_sentence,
    to_json,
)
from autoprumux.config import DEFAULT_STORAGE

QUERY_EPILOG = """\b
Example:
  autoprumux query --task qnli --budget 0:10:0.5
"""


@in_one_sentence
def query(
    *,
    task: StoredTask = None,
    budget: StoredBudgets = None,
    study: StudyName = None,
    storage: Storage = DEFAULT_STORAGE,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Answer from the database alone, without training.

    Per budget: the fastest measured model and the predicted ones that may be faster.
    """
    outcome = stored.query(task, budget, study=study, storage=storage)

    from autoprumux.report.answers import answers_to_rows, format_answers

    if as_json:
        print(to_json(answers_to_rows(outcome.answers)))
    else:
        print(format_answers(outcome.study, outcome.answers))
