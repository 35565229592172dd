# SPDX-License-Identifier: Apache-2.0
"""Lifecycle node that labels the points of a live sensor: `points` in, `segmentation` out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .perception_node import PerceptionNode
from .runtime import run_node
from .tables import SEGMENT_NODE

if TYPE_CHECKING:
    from .labelling import Labeller


class SegmentNode(PerceptionNode):
    """Loads and warms up a model, then labels every sweep of `points`."""

    default_name = "segment_node"
    table = SEGMENT_NODE

    def make_worker(self) -> Labeller:
        """Load the model; its module imports torch."""
        from .labelling import Labeller

        return Labeller(self)

    def subscribe(self, worker: Labeller) -> None:
        """Hand every cloud to the worker."""
        self.listen_to_clouds(worker.take)


def main(args: list[str] | None = None) -> None:
    """Run the node until it is interrupted."""
    run_node("segment_node", SegmentNode, args)


if __name__ == "__main__":
    main()
