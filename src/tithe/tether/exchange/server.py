"""The host of a store that outlives the members of a population: a process that does nothing else."""

from __future__ import annotations

import socket

from torch.distributed import TCPStore  # type: ignore[attr-defined]  # public, and not in its __all__

from tithe.errors import InvalidValueError

__all__ = ["serve"]

_BACKLOG = 128


def serve(port: int = 0, host: str = "127.0.0.1") -> TCPStore:
    """Host a ``TCPStore`` for as long as the returned object lives; it answers from threads of its own.

    Args:
        port: 0 for any that is free; ``.port`` of the result says which.
        host: address to listen on; by default only this machine can reach it. There is no password: whoever can reach
            the port reads and writes all, so never listen on an address that others than the members can reach.

    Returns:
        The store; members on this machine or others make clients by ``TCPStore(host, port, is_master=False)``. Raises
        ``InvalidValueError`` where the address cannot be listened on. Memory: two states a member.

    >>> host = serve()
    >>> client = TCPStore("127.0.0.1", host.port, is_master=False)
    >>> client.set("a", "1")
    >>> host.get("a")
    b'1'
    """
    if not 0 <= port < 1 << 16:
        raise InvalidValueError(f"cannot listen on port {port}; use one from 1 to 65535, or 0 for any that is free")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # TCPStore by itself would listen on all addresses
        with socket.create_server((host, port), family=family, backlog=_BACKLOG) as listener:
            port = int(listener.getsockname()[1])
            descriptor = listener.detach()
    except OSError as error:
        raise InvalidValueError(f"cannot listen on {host}:{port} ({error}); use an address of this machine") from error
    return TCPStore(host, port, is_master=True, wait_for_workers=False, master_listen_fd=descriptor)
