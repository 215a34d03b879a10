"""The one exception that a user is meant to read, and how others are told in it."""


class UserError(Exception):
    """A mistake that the user can mend: the message is one line and says what to change.

    The command line prints it without a traceback and exits with code 2. Anything else that
    escapes is a bug of ours and keeps its traceback.
    """


def one_line(error: BaseException) -> str:
    """An error as one line, short enough to stand inside one of ours."""
    line = " ".join(str(error).split()).rstrip(".:") or type(error).__name__
    return line if len(line) <= 200 else line[:197] + "..."
