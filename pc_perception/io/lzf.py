# SPDX-License-Identifier: Apache-2.0
"""LZF, the compression inside ``binary_compressed`` PCD files."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(nogil=True, cache=True)
def _expand(data, out):
    """Return how many bytes were written, or -1 where a run leaves the input or the output."""
    i, o, n_in, n_out = np.int64(0), np.int64(0), len(data), len(out)
    while i < n_in:
        control = np.int64(data[i])
        i += 1
        if control < 32:  # control + 1 bytes as they are
            length = control + 1
            if i + length > n_in or o + length > n_out:
                return -1
            for k in range(length):
                out[o + k] = data[i + k]
            i += length
        else:  # a run that was seen before, by length and distance back
            length = control >> 5
            if length == 7:
                if i >= n_in:
                    return -1
                length += np.int64(data[i])
                i += 1
            length += 2
            if i >= n_in:
                return -1
            start = o - ((control & 31) << 8) - np.int64(data[i]) - 1
            i += 1
            if start < 0 or o + length > n_out:
                return -1
            for k in range(length):  # byte by byte: a run may overlap what it writes
                out[o + k] = out[start + k]
        o += length
    return o


def decompress(data: bytes | memoryview, size: int) -> NDArray[np.uint8]:
    """Return (size,) uint8, the expanded bytes.

    Raises:
        ValueError: the stream is damaged or expands to another size.
    """
    out = np.empty(size, np.uint8)
    written = _expand(np.frombuffer(data, np.uint8), out)
    if written != size:
        raise ValueError("the compressed block is damaged: it does not expand to the size in its header")
    return out
