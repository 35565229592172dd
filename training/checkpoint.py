# SPDX-License-Identifier: Apache-2.0
"""Training state on disk: plain tensors and numbers only, so that nothing is unpickled to resume.

(mmengine's own checkpoints hold its history objects, which torch's safe loader refuses.)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

NAME = "last.pth"
EARLIER = "earlier-"
"""What names begin with that a run found in its folder and did not go on from."""
FORMAT = 1


def save_state(work_dir: str | Path, state: dict[str, Any]) -> Path:
    """Write the state; the old file is replaced only when the new one is complete."""
    path = Path(work_dir) / NAME
    unfinished = path.with_suffix(".part")
    torch.save({"format": FORMAT, **state}, unfinished)
    unfinished.replace(path)
    return path


def set_aside(work_dir: str | Path, names: Sequence[str]) -> list[str]:
    """Rename files that an earlier run left where a new one begins, for nothing of it to be lost.

    Returns:
        The names of those that were there; one further back is replaced.
    """
    found = [name for name in names if (Path(work_dir) / name).is_file()]
    for name in found:
        (Path(work_dir) / name).replace(Path(work_dir) / f"{EARLIER}{name}")
    return found


def load_state(work_dir: str | Path) -> dict[str, Any] | None:
    """Return the state of an earlier session, or None where there is none.

    Raises:
        ValueError: the file cannot be read.
    """
    path = Path(work_dir) / NAME
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"the checkpoint '{path}' cannot be read ({error}); remove it to start anew"
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(f"the checkpoint '{path}' is not of this version; remove it to start anew")
    return state
