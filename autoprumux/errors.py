"""Errors of the search, its storage and its answers.

AutoPrumuxError                 exit code 1
├── UsageError                  exit code 2: an option or argument that cannot be used
│   └── ConfigError             a study file or preset with mistakes (all reported together)
├── StorageError                the database cannot be opened, read or written
│   ├── DamagedError            it holds what this program did not write
│   ├── NewerSchemaError        written by a newer version of this program
│   └── StudyMismatchError      the stored study has another recipe
├── UnknownStudyError           the database holds no such study or task
├── MixedDevicesError           it was measured on several devices or in several settings
├── NoBaselineError             the study has no measured dense baseline yet
├── TooFewTrialsError           the study has too few measured trials for the question
├── NoModelError                the study has no measured model of the kind asked for, or lost it
├── PredictionError             a model directory or a table of texts cannot be used for labels
└── EvaluationError             a trial failed; `cause` is stored with it
    ├── InputError              every trial would fail (data, checkpoint, recipe): the search stops
    ├── LostProcessError        of several processes that train together, one is gone: likewise
    └── TrialError              this trial only: the search goes on
"""


class AutoPrumuxError(Exception):
    """Base of all errors that this package raises on purpose."""

    exit_code = 1


class UsageError(AutoPrumuxError, ValueError):
    """An option or argument cannot be used."""

    exit_code = 2


class ConfigError(UsageError):
    """A study file has mistakes."""


class StorageError(AutoPrumuxError):
    """The database cannot be opened, read or written."""


class DamagedError(StorageError):
    """Stored rows hold what this program did not write, such as a text in place of a number."""


class NewerSchemaError(StorageError):
    """The database was written by a newer version of this program."""


class StudyMismatchError(StorageError):
    """The stored study was made with another recipe."""


class UnknownStudyError(AutoPrumuxError):
    """The database holds no such study or task."""


class MixedDevicesError(AutoPrumuxError):
    """Speeds of several devices or settings are mixed, so speed-ups cannot be compared."""


class NoBaselineError(AutoPrumuxError):
    """The study has no measured dense baseline yet."""


class TooFewTrialsError(AutoPrumuxError):
    """The study has too few measured trials for the question."""


class NoModelError(AutoPrumuxError):
    """The study has no measured model of the kind that is asked for, or its files are gone."""


class PredictionError(AutoPrumuxError):
    """A model directory or a table of texts cannot be used for labels."""


class DismissedError(AutoPrumuxError):
    """The first process ended by an error or Ctrl-C, which it tells; this one did its part."""

    exit_code = 0


class EvaluationError(AutoPrumuxError):
    """A candidate could not be evaluated; `cause` is one word for the database."""

    def __init__(self, message: str, *, cause: str) -> None:
        super().__init__(message)
        self.cause = cause


class InputError(EvaluationError):
    """Data, checkpoint or configuration are at fault, so every trial would fail."""


class LostProcessError(EvaluationError):
    """One of the processes that train a trial together is gone; the trial is taken up later."""


class TrialError(EvaluationError):
    """Only this trial failed."""
