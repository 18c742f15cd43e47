"""What goes wrong in the pipeline, for whoever gave the command: an error says its exit code."""

from pathlib import Path


class CommandError(Exception):
    """A command that could not do what it was asked to; the message says why, and the remedy."""

    exit_code = 1


class UsageError(CommandError, ValueError):
    """A user's mistake: a checkout or a chapter that is not there, an output that cannot be."""

    exit_code = 2


class ParameterError(UsageError):
    """A reader's parameter that the chapter cannot run with."""


class BookError(CommandError):
    """A book that cannot be built as it stands, or that was built with a warning."""


class SweepError(CommandError):
    """A sweep that could not go on; what it had finished is kept."""


class ChapterError(CommandError):
    """A chapter that did not run to its end: which, at which cell, and why.

    The reason alone, and the notebook up to there if there is one, are attributes, too.
    """

    def __init__(self, reason: str, notebook: Path | None = None) -> None:
        super().__init__(reason + (f"\nThe notebook up to there: {notebook}" if notebook else ""))
        self.reason = reason
        self.notebook = notebook
