"""Errors of the trainers.

TrainerError
├── ConfigError          a value outside its range, or options that contradict each other
├── DataError            files missing, unreadable or malformed; columns or labels unknown
├── CheckpointError      weights or tokenizer missing, damaged or of another shape
├── ShapeError           tensors that disagree
├── ExportError          an exported model that does not compute what its checkpoint does
├── LostProcessError     of several processes that train together, one is gone
└── TrainingError        the run itself failed; `cause` is one word for the database
    ├── DivergedError         cause `nan`
    ├── SparsityError         cause `sparsity_not_reached`
    ├── OutOfMemoryError      cause `out_of_memory`
    └── DiskError             cause `disk_full`
"""


class TrainerError(Exception):
    """Base of all errors that the trainers raise on purpose."""


class ConfigError(TrainerError, ValueError):
    """A configuration value is out of its range or contradicts another."""


class DataError(TrainerError, ValueError):
    """A data file is missing, unreadable or malformed."""


class CheckpointError(TrainerError):
    """A checkpoint is missing, damaged or does not fit the model."""


class ShapeError(TrainerError, ValueError):
    """Tensors disagree on a dimension."""


class ExportError(TrainerError):
    """An exported model does not compute what its checkpoint does, or cannot be made."""


class LostProcessError(TrainerError):
    """Another of the processes that train a trial together is gone."""


class TrainingError(TrainerError):
    """A training run failed; `cause` names the kind of failure."""

    cause = "training"


class DivergedError(TrainingError):
    """A loss became NaN or infinite."""

    cause = "nan"


class SparsityError(TrainingError):
    """Pruning ended without reaching the requested sparsity."""

    cause = "sparsity_not_reached"


class OutOfMemoryError(TrainingError):
    """The device or the machine ran out of memory."""

    cause = "out_of_memory"


class DiskError(TrainingError):
    """A checkpoint could not be written because the disk is full."""

    cause = "disk_full"
