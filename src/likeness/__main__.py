"""Entry of the command line: errors become one line, exit codes mean something."""

from __future__ import annotations

import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .catalogue import ALIASES, SHORT
from .errors import LikenessError, meant

if TYPE_CHECKING:
    from sys import UnraisableHookArgs
    from types import FrameType

INTERRUPTED = 130  # what a shell gives a command that Ctrl-C ended
SOON = 0.01  # seconds after which an interrupt that was lost comes again


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command: 0 done, 1 the work failed, 2 the call was wrong, 130 interrupted and saved."""
    try:
        with interrupts_kept():
            return _run(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        print("likeness: interrupted", file=sys.stderr)
        return INTERRUPTED


@contextmanager
def interrupts_kept() -> Iterator[None]:
    """Inside, a Ctrl-C that comes where Python can raise nothing, or should not, is raised as soon as it can be.

    Python 3.11 runs code of its own when an import ends (a weak reference to the module's lock is dropped) or an object
    is deleted; an interrupt in there is written to stderr, and forgotten. One that breaks off an import leaves half a
    module: numpy and torch load no second time, so whoever tries again fails for another reason. A second Ctrl-C does.
    """
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield
        return
    hook, handlers = sys.unraisablehook, {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGALRM)}

    def interrupt(number: int, frame: FrameType | None) -> None:
        second = signal.getitimer(signal.ITIMER_REAL)[0] > 0
        waits = _importing(frame) and not second
        signal.setitimer(signal.ITIMER_REAL, SOON if waits else 0)
        if not waits:
            raise KeyboardInterrupt

    def again(lost: UnraisableHookArgs) -> None:
        if issubclass(lost.exc_type, KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, SOON)
        else:
            hook(lost)

    sys.unraisablehook = again
    for number, handler in handlers.items():
        if number != signal.SIGINT or handler is signal.default_int_handler:  # else nobody is to be interrupted
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook = hook
        for number, handler in handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported there, by whatever a command does."""
    while frame is not None and frame.f_code is not main.__code__:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _run(argv: Sequence[str]) -> int:
    """One command; all errors but Ctrl-C are told here."""
    from typer import Exit
    from typer.exceptions import TyperException

    from .cli import app

    try:
        code = app(list(argv), standalone_mode=False)
        if code == INTERRUPTED:  # typer has caught Ctrl-C itself, and says nothing
            raise KeyboardInterrupt
        return code or 0
    except LikenessError as error:
        print(f"likeness: {error}", file=sys.stderr)
        return error.code
    except TyperException as error:
        if error.format_message():  # nothing is wrong with asking for help by saying nothing
            print(f"likeness: {_call_error(error.format_message())}", file=sys.stderr)
        return 2
    except Exit as end:
        return end.exit_code
    except BrokenPipeError:  # `likeness show | head`
        sys.stderr.close()
    except OSError as error:  # a full disk, a closed folder: what is wrong is not in this program
        where = f": {error.filename}" if error.filename else ""
        print(f"likeness: {error.strerror or error}{where}", file=sys.stderr)
        return 1
    return 0


def _call_error(message: str) -> str:
    """The parser's message in one line; an option that is really a field says so."""
    line = " ".join(message.split())
    option = re.match(r"No such option:? '?--?([\w-]+)", line)
    if option is None:
        return f"{line[:1].lower()}{line[1:]} (`likeness --help` lists the commands)"
    name = option[1].replace("-", "_")
    near = re.search(r"'(\w+)'", meant(name, {*SHORT, *ALIASES}))
    if near is None:
        return f"no option --{option[1]}; `--help` after the command lists its options"
    return f"no option --{option[1]}; did you mean {near[1]}=...? Fields of the recipe are given as KEY=VALUE"


if __name__ == "__main__":
    sys.exit(main())
