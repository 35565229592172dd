# SPDX-License-Identifier: Apache-2.0
"""Keep the memory of one sweep for the next one."""

from __future__ import annotations

import ctypes
import sys

# Names and numbers of glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8


def keep_freed_memory() -> bool:
    """Tell the C library to reuse what was freed instead of giving it back to the system; for this whole process.

    A sweep's tensors are of some megabytes each. By default each is mapped anew from the system and every page of
    it costs a fault: five thousand a sweep, a tenth of its time. With this, a live path's memory stays at its
    highest mark, and a sweep costs a few dozen faults. For programs that label sweep after sweep (the node, the
    commands), which call it before the first one.

    Returns:
        Whether it took effect: only glibc (Linux) has these switches.
    """
    c_library = _glibc()
    if c_library is None:
        return False
    # Nothing is mapped by itself: a threshold may be 32 MB at most, and large clouds have larger tensors. One arena:
    # those of further threads would each keep their own, and give it back all the same.
    wanted = ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, 1 << 30), (_TOP_PAD, 16 << 20))
    return all([c_library.mallopt(switch, value) == 1 for switch, value in wanted])


def give_back_memory() -> None:
    """Return what is free now to the system, for this whole process.

    For after what takes much and comes seldom, such as loading a model beside the one at work. Sweeps then map
    theirs once more.
    """
    c_library = _glibc()
    if c_library is not None:
        c_library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """Return the C library where it is glibc."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        c_library = ctypes.CDLL(None)
    except OSError:
        return None
    return c_library if hasattr(c_library, "mallopt") and hasattr(c_library, "malloc_trim") else None
