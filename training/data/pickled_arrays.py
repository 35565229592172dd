# SPDX-License-Identifier: Apache-2.0
"""Pickles of numpy arrays, read without running anything that they name.

Published caches of ModelNet40 and few-shot folds are pickles of lists, dicts and arrays. Neither numpy's own
unpickling nor any other function is called: stand-ins take the few names that arrays need and rebuild the
arrays from their bytes; every other name is refused.
"""

from __future__ import annotations

import pickle
import pickletools
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

_PLAIN = "?bhilqBHILQefd"
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")


class _Dtype:
    """Stands in for ``numpy.dtype``: a number's type and its byte order."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.dtype = np.dtype(code) if isinstance(code, str) and "O" not in code else np.dtype("V1")
        if self.dtype.char not in _PLAIN:
            raise pickle.UnpicklingError(f"arrays of type {code!r} are not read; only those of plain numbers")

    def __setstate__(self, state: Any) -> None:
        if state[1] in (">", "<"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands in for ``numpy.ndarray`` until its state comes."""

    values: NDArray

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        self.values = _from_bytes(raw, dtype, shape, "F" if fortran else "C").values


def _from_bytes(raw: Any, dtype: Any, shape: Any, order: str = "C") -> _Array:
    if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes | bytearray):
        raise pickle.UnpicklingError("an array in it is not made of plain numbers")
    array = _Array()
    array.values = np.frombuffer(bytes(raw), dtype.dtype).reshape(shape, order="F" if order == "F" else "C")
    return array


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _scalar(dtype: Any, raw: Any) -> _Array:
    return _from_bytes(raw, dtype, ())


def _encode(text: Any, encoding: Any) -> bytes:
    """Python 2 and protocol 2 write bytes as text in Latin-1."""
    if encoding not in ("latin1", "latin-1") or not isinstance(text, str):
        raise pickle.UnpicklingError(f"text in it is encoded as {encoding!r}; only latin1 is read")
    return text.encode("latin-1")


_KNOWN: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}
for _core in ("numpy.core", "numpy._core"):
    _KNOWN[f"{_core}.multiarray", "_reconstruct"] = _reconstruct
    _KNOWN[f"{_core}.multiarray", "scalar"] = _scalar
    _KNOWN[f"{_core}.numeric", "_frombuffer"] = _from_bytes


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, which is no numpy array; it may be an attack"
            )
        return _KNOWN[module, name]


def read_arrays(path: str | Path) -> Any:
    """Return what a pickle of arrays, numbers, text, lists, tuples and dicts holds.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or holds anything else; nothing of it was run.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file '{path}'")
    try:
        with path.open("rb") as stream:
            _check_sizes(stream, path.stat().st_size)
            stream.seek(0)
            return _plain(_ArraysOnly(stream, encoding="latin1").load(), {})
    except (
        pickle.UnpicklingError, EOFError, AttributeError, IndexError, KeyError, TypeError, ValueError, MemoryError,
        RecursionError, UnicodeError, OverflowError,
    ) as error:  # fmt: skip
        raise ValueError(f"'{path}' cannot be read as a pickle of arrays: {error}") from error


def _check_sizes(stream: BinaryIO, n_bytes: int) -> None:
    """Read through the instructions first: none may ask for more memory than the file is large."""
    for instruction, argument, _ in pickletools.genops(stream):
        if instruction.name in _PUTS and (argument or 0) > n_bytes:
            raise pickle.UnpicklingError(f"it counts {argument} objects in {n_bytes} bytes")


def _plain(value: Any, done: dict[int, Any]) -> Any:
    """Put arrays in place of the stand-ins; what occurs twice is converted once."""
    if isinstance(value, _Array):
        return value.values if value.values.ndim else value.values[()]
    if not isinstance(value, dict | list | tuple):
        return value
    if id(value) not in done:
        if isinstance(value, dict):
            done[id(value)] = {_plain(k, done): _plain(v, done) for k, v in value.items()}
        else:
            done[id(value)] = type(value)(_plain(v, done) for v in value)
    return done[id(value)]
