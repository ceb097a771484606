"""Errors that a person can act on: what happened, the next command, and one exit code for each kind."""

OK = 0
FAILED = 1  # some unit of work failed; it is named
REFUSED = 2  # refused before any change: usage, a guard, drift
RED = 3  # a gate is red
BAD_STREAM = 65
UNAVAILABLE = 69  # a service, a file or a disk that is needed is away
BUG = 70
BUSY = 75  # a lock is held; try later
CONFIG = 78
CLOSED_PIPE = 141  # 128 + SIGPIPE


class SluiceError(Exception):
    """Stops a command. `message` says what happened, with the value and where it was set; `hint` what to type now.

    `code` is `area_problem`, a name that scripts and the runbook may rely on.
    """

    def __init__(self, message: str, *, code: str, exit_code: int, hint: str | None = None, line: int | None = None):
        super().__init__(message)
        self.message = message
        self.code = code
        self.exit_code = exit_code
        self.hint = hint
        self.line = line


def refused(message: str, *, code: str, hint: str | None = None) -> SluiceError:
    """Bad input or an unsafe request, found before anything was changed."""
    return SluiceError(message, code=code, exit_code=REFUSED, hint=hint)


def misconfigured(message: str, *, code: str, hint: str | None = None) -> SluiceError:
    """The set-up is wrong: a folder, a profile, a setting."""
    return SluiceError(message, code=code, exit_code=CONFIG, hint=hint)


def bad_stream(
    message: str, *, line: int | None = None, code: str = "stream_bad_line", hint: str | None = None
) -> SluiceError:
    """What came in on standard input cannot be trusted from `line` (counted from 1) on."""
    return SluiceError(message, code=code, exit_code=BAD_STREAM, hint=hint, line=line)


def unavailable(message: str, *, code: str, hint: str | None = None) -> SluiceError:
    """Something outside that is needed does not answer."""
    return SluiceError(message, code=code, exit_code=UNAVAILABLE, hint=hint)


def busy(message: str, *, code: str = "lock_held", hint: str | None = None) -> SluiceError:
    """Somebody else is at it."""
    return SluiceError(message, code=code, exit_code=BUSY, hint=hint)


def suggestion(word: str, known: list[str]) -> str:
    """`; did you mean 'stages'?` for the known word nearest to `word`, or nothing."""
    import difflib

    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
