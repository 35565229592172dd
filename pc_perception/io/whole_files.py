# SPDX-License-Identifier: Apache-2.0
"""Files that appear under their name only when they are complete."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a name to write to, which becomes ``path`` at the end; after an exception no part is left.

    The folder is made where it is missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Same folder, so that the rename is atomic; same ending, because .pcd.bin, .las, .laz and .png matter.
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        if error.strerror and error.filename in (None, str(partial)):  # a full disk names no file
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        partial.unlink(missing_ok=True)
