"""``python -m tithe`` is ``tithe``."""

import sys

from tithe.cli import main

if __name__ == "__main__":
    sys.exit(main())
