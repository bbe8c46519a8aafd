"""Entry of the command line: errors become one line, exit codes mean something."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

from .catalogue import ALIASES, SHORT
from .errors import LikenessError, meant

INTERRUPTED = 130  # what a shell gives a command that Ctrl-C ended


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command: 0 done, 1 the work failed, 2 the call was wrong, 130 interrupted and saved."""
    from typer import Exit
    from typer.exceptions import TyperException

    from .cli import app

    try:
        code = app(list(sys.argv[1:] if argv is None else argv), standalone_mode=False)
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
    except KeyboardInterrupt:
        print("likeness: interrupted", file=sys.stderr)
        return INTERRUPTED
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
