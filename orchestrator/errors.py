"""The one kind of failure that is the user's to resolve."""


class UserError(Exception):
    """What is wrong, where, and what to do about it, in one line. The command line prints it and exits with 2."""


class Unreadable(UserError, ValueError):
    """A file of our own that is damaged."""


class Until(Exception):
    """A run has come as far as it was to."""
