# SPDX-License-Identifier: Apache-2.0
"""Lifecycle node that finds, names and follows objects: `points` in; `objects`, `object_markers`, `instances` out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .perception_node import PerceptionNode
from .runtime import Words, run_node
from .tables import CLASSIFY_NODE

if TYPE_CHECKING:
    from .classifying import ObjectFinder


class ClassifyNode(PerceptionNode):
    """Loads and warms up its models, then finds the objects of every sweep of `points`."""

    default_name = "classify_node"
    table = CLASSIFY_NODE
    words = Words(doing="finding objects", done="classified")

    def make_worker(self) -> ObjectFinder:
        """Load the models; its module imports torch."""
        from .classifying import ObjectFinder

        return ObjectFinder(self)

    def subscribe(self, worker: ObjectFinder) -> None:
        """Hand every cloud to the worker."""
        self.listen_to_clouds(worker.take)


def main(args: list[str] | None = None) -> None:
    """Run the node until it is interrupted."""
    run_node("classify_node", ClassifyNode, args)


if __name__ == "__main__":
    main()
