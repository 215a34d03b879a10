"""The one exception that a user is meant to read."""


class UserError(Exception):
    """A mistake that the user can mend: the message is one line and says what to change.

    The command line prints it without a traceback and exits with code 2. Anything else that
    escapes is a bug of ours and keeps its traceback.
    """
