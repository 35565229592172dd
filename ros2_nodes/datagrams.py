# SPDX-License-Identifier: Apache-2.0
"""Datagrams that never reached DDS. Without ROS."""

from __future__ import annotations

import os
from pathlib import Path

TABLES = (Path("/proc/self/net/udp"), Path("/proc/self/net/udp6"))
INODE, DROPS = 9, -1
"""Columns of these tables."""


def n_dropped() -> int:
    """Return how many datagrams this process's open sockets have lost to full receive buffers.

    Each is part of a message, which is lost unless it is sent again. 0 where the kernel does not tell (no Linux).
    """
    ours = _sockets()
    rows = [line.split() for table in TABLES if table.exists() for line in table.read_text().splitlines()[1:]]
    return sum(int(row[DROPS]) for row in rows if row[INODE] in ours)


def _sockets() -> set[str]:
    """Return the inodes of this process's sockets."""
    folder, found = Path("/proc/self/fd"), set()
    for name in os.listdir(folder) if folder.exists() else ():
        try:
            kind, _, inode = os.readlink(folder / name).partition(":")
        except OSError:  # closed meanwhile
            continue
        if kind == "socket":
            found.add(inode.strip("[]"))
    return found
