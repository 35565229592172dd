# SPDX-License-Identifier: Apache-2.0
"""Which scenes of nuScenes belong to a split, and every how many-th of them have labels.

Beside the official lists: ``parametrizing`` and ``verifying``, SLidR's parts of ``train``, 600 scenes that it and
CMCR pre-train on and 100 that they choose settings on. The numbers are those of valeoai/SLidR,
``pretrain/dataloader_nuscenes.py``; CMCR has the same.
"""

from __future__ import annotations

from collections.abc import Sequence

_VERIFYING = """
8 9 19 29 32 42 45 49 52 54 56 66 67 73 131 152 166 168 183 190 194 208 210 211 241 243 248 259 260 261 287 292 297
305 306 350 352 358 361 365 368 377 388 391 395 413 427 428 438 444 452 453 459 463 464 475 513 533 544 575 587 589
642 652 658 669 678 687 701 703 706 710 715 726 735 740 758 786 790 804 806 847 856 868 882 897 899 976 996 1012 1015
1016 1018 1020 1024 1044 1058 1094 1098 1107
"""
VERIFYING = frozenset(f"scene-{int(number):04d}" for number in _VERIFYING.split())


def scenes_of(split: str) -> frozenset[str] | None:
    """Return the names of a split's scenes; None, for all that there are, where ``split`` is empty.

    Raises:
        ValueError: there is no such split.
        ImportError: nuscenes-devkit, which holds the official lists, is not installed.
    """
    from nuscenes.utils.splits import create_splits_scenes

    if not split:
        return None
    lists = {name: frozenset(scenes) for name, scenes in create_splits_scenes().items()}
    lists |= {"parametrizing": lists["train"] - VERIFYING, "verifying": VERIFYING}
    if split not in lists:
        raise ValueError(f"there is no split '{split}'; choose one of {', '.join(lists)}")
    return lists[split]


def every_nth(scenes: Sequence[str], step: int, where: str) -> list[str]:
    """Return the scenes number ``step``, 2 ``step`` ... counted from 1: SLidR's subsets for few labels.

    Steps of 100, 20, 10, 4 and 1 make what is called 1, 5, 10, 25 and 100 % of the 700 scenes of ``train``.

    Args:
        scenes: in the order of the data set's tables.
        where: what they are scenes of, for the message.

    Raises:
        ValueError: there are fewer than ``step``, so that none is left.
    """
    if step < 1:
        raise ValueError(f"every must be at least 1, got {step}")
    if scenes and len(scenes) < step:
        raise ValueError(
            f"every={step} leaves none of the {len(scenes)} scenes of {where}; take a smaller step "
            f"or the whole data set (one scene in {len(scenes)} is the least it has)"
        )
    return list(scenes[step - 1 :: step])
