"""The exceptions of the pipeline and their exit codes.

Each error says what failed and what to do about it. Scripts and CI can rely on the exit codes: 1 usage or a bug of the
pipeline, 2 catalog, 3 build, 4 verify, 5 cloud and release, 6 unfit host, 7 something to do (`plan --check`), 130/143
interrupted.
"""

# An interrupt's exit code is this plus the number of the signal.
INTERRUPTED = 128

# The remedy when disk space runs out.
DISK_FULL = "The disk is full: free some space, or put the builds elsewhere with --builds DIR."


class PipelineError(Exception):
    """What failed, in one line or more; `remedy` says what the operator can do."""

    exit_code = 1

    def __init__(self, what: str, *, remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy


class UsageError(PipelineError):
    """The command line asks for something that does not exist or does not fit together."""


class CatalogError(PipelineError):
    """images.yaml is wrong, or names something unknown or impossible."""

    exit_code = 2


class BuildError(PipelineError):
    """diskimage-builder, or one of our own build steps, failed."""

    exit_code = 3


class VerifyError(PipelineError):
    """A build exists and does not pass its checks."""

    exit_code = 4


class CloudError(PipelineError):
    """Keystone, Glance or the store of the records refused, failed or could not be reached."""

    exit_code = 5


class HostError(PipelineError):
    """This host is not able to do it: a program is missing, the disk is too small, a lock is held."""

    exit_code = 6


class Interrupted(PipelineError):
    """SIGINT (130), SIGTERM (143) or SIGHUP (129) arrived; everything started was stopped and cleaned up."""

    def __init__(self, signal_number: int) -> None:
        super().__init__("interrupted", remedy="Run the same command again; nothing was left behind.")
        self.exit_code = INTERRUPTED + signal_number


class ProgramError(PipelineError):
    """A program ended with an exit code other than 0, or passed its deadline (`returncode` is None then).

    Callers that know what the program was for turn it into a BuildError, a HostError and so on.
    """

    def __init__(self, argv: tuple[str, ...], returncode: int | None, output: str) -> None:
        last_line = f": {output.strip().splitlines()[-1]}" if output.strip() else ""
        how = "passed its deadline" if returncode is None else f"ended with exit code {returncode}"
        super().__init__(f"{argv[0]} {how}{last_line}")
        self.argv = argv
        self.returncode = returncode
        self.output = output


def exit_code(errors: list[PipelineError]) -> int:
    """The exit code of a command in which several things failed: the lowest of theirs, 0 for none."""
    return min((error.exit_code for error in errors), default=0)
