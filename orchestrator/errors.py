"""The one kind of failure that is the user's to resolve."""


class UserError(Exception):
    """What is wrong, where, and what to do about it, in one line. The command line prints it and exits with 2."""


class Unreadable(UserError, ValueError):
    """A file of our own that is damaged."""


def require_no_credentials(storage: str) -> None:
    """Raises UserError where an address holds a name and a password, which logs and dashboards would show."""
    if "://" in storage and "@" in storage.partition("?")[0]:
        raise UserError(
            "--storage must not hold credentials, which logs and dashboards would show: put them into the environment "
            "(AWS_ACCESS_KEY_ID, ...) of the nodes"
        )
