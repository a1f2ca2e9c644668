"""``python -m tithe.cli``: the same as ``tithe``."""

from __future__ import annotations

import sys

from tithe.cli import main

if __name__ == "__main__":
    sys.exit(main())
