"""What goes wrong in a way the user can mend, and how a run ends before its time."""


class UsageError(Exception):
    """Something the user can mend, told in one line: what is wrong; what to do.

    Entry points print it as ``error: …`` on stderr and exit with code 2.
    """


class Interrupted(Exception):  # noqa: N818 - not an error: the state is saved and the run goes on later
    """A run was asked to stop by a signal and has saved its state.

    Entry points print it and exit with code 128 + ``signum`` (130 for SIGINT, 143 for SIGTERM).
    """

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.signum = signum
