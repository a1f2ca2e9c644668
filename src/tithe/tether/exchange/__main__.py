"""``python -m tithe.tether.exchange``: host a store for a population until the process is ended."""

from __future__ import annotations

import argparse
import sys
import threading

from tithe.tether.exchange.server import serve


def main() -> None:
    """Serve, tell the port, wait for ever."""
    parser = argparse.ArgumentParser(
        prog="python -m tithe.tether.exchange",
        description="Host the store through which the members of a population exchange states. There is no password: "
        "whoever can reach the port reads and writes all.",
    )
    parser.add_argument("--port", type=int, default=0, help="0 for any that is free (default)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    options = parser.parse_args()
    store = serve(options.port, options.host)
    sys.stdout.write(f"{options.host}:{store.port}\n")
    sys.stdout.flush()
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
