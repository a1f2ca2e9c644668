"""All exceptions of Tithe; each also derives from the built-in that a caller would expect."""

__all__ = [
    "CorruptFileError",
    "DataUnavailableError",
    "InvalidDTypeError",
    "InvalidStateError",
    "InvalidValueError",
    "MissingExtraError",
    "ModelFileError",
    "TaskCancelledError",
    "TaskFailedError",
    "TaskTimeoutError",
    "TitheError",
    "UnknownClaimError",
    "UnmeasurableError",
    "WorkerLostError",
]


class TitheError(Exception):
    """The common base: ``except TitheError`` catches whatever Tithe itself reports."""


class InvalidValueError(TitheError, ValueError):
    """An argument has the right type and a value that cannot be used; the message says what can."""


class InvalidDTypeError(TitheError, TypeError):
    """An argument is of a type or dtype that cannot be used; the message says which can."""


class InvalidStateError(TitheError, RuntimeError):
    """An object cannot do this now: it has not been started, or is closed, or is in use; the message says which."""


class CorruptFileError(TitheError, ValueError):
    """A file is not what it should be: truncated, of a foreign format, or its checksum differs."""


class ModelFileError(CorruptFileError):
    """A file holds no model that can be loaded, or none for this topology; the message says what it holds."""


class MissingExtraError(TitheError, ImportError):
    """An optional dependency is not installed; the message gives the extra that brings it."""


class DataUnavailableError(TitheError, RuntimeError):
    """A data set is in none of the places where it is looked for, and could not be fetched."""


class UnknownClaimError(InvalidValueError):
    """No claim of the audit has this id; the message names those that exist."""


class UnmeasurableError(TitheError, RuntimeError):
    """A claim of the audit cannot be measured here; the message says what is missing."""


class TaskFailedError(TitheError, RuntimeError):
    """A task has failed, and its own exception cannot be handed on; the message has it as text."""


class TaskTimeoutError(TitheError, TimeoutError):
    """A task took longer than its timeout and was ended; the message says how long that was."""


class TaskCancelledError(TitheError, RuntimeError):
    """A task was not run: it was cancelled, or what it needs has no value; the message says which."""


class WorkerLostError(TitheError, RuntimeError):
    """Workers died of a task more often than it is tried again; the message says how they died."""
