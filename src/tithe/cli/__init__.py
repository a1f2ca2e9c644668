"""The command line: thin; what it does lives in the packages below, and loads when a command needs it."""

from __future__ import annotations

from collections.abc import Sequence

from cyclopts import App, CycloptsError

from tithe import __version__
from tithe.cli.about import data, machine
from tithe.cli.audit import audit
from tithe.cli.console import complain
from tithe.cli.hashtron import hashtron
from tithe.cli.lattice import lattice
from tithe.cli.tether import tether
from tithe.errors import TitheError

__all__ = ["app", "main"]

app = App(name="tithe", version=__version__, help="Pay a tenth of the compute, and get a receipt.")
for command in (audit, data, machine, tether, lattice, hashtron):
    app.command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; those of the process by default.

    Returns:
        The exit code: 0, 1 for an error, 2 for a usage error, 130 for an interruption.

    >>> main(["--version"])
    0.1.0
    0
    """
    try:
        code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        complain(str(error))
        return 2
    except TitheError as error:
        complain(str(error))
        return 1
    except OSError as error:
        complain(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    return code if isinstance(code, int) else 0
