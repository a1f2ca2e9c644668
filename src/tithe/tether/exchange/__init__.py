"""Exchange of states between the members of a population that are in different processes or on different machines.

================== ============================================ ======================================================
exchange           by way of                                    a member that dies
================== ============================================ ======================================================
``FolderExchange`` a folder that all see                        the others go on; it comes back under its name
``StoreExchange``  a ``TCPStore`` in a process of its own       the others go on; it comes back under its name
``GroupExchange``  a process group: gloo on CPU, NCCL on GPUs   ends it for all, with an error; the fastest while intact
================== ============================================ ======================================================

What a peer sends is data and is checked before anything of it is merged; what is refused is noted with the reason.
"""

from tithe.tether.exchange.folder import FolderExchange
from tithe.tether.exchange.group import GroupExchange
from tithe.tether.exchange.message import Message, check, pack, unpack
from tithe.tether.exchange.protocol import Exchange
from tithe.tether.exchange.server import serve
from tithe.tether.exchange.store import StoreExchange

__all__ = [
    "Exchange",
    "FolderExchange",
    "GroupExchange",
    "Message",
    "StoreExchange",
    "check",
    "pack",
    "serve",
    "unpack",
]
