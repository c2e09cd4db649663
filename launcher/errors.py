"""The one error that people see: what is wrong, and what to do about it."""


class LauncherError(Exception):
    """A fault that a user can cause or mend; `cli` prints it as one line and a hint and exits with code 1."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
