# SPDX-License-Identifier: Apache-2.0
"""The networks over scenes that a model file can name, and the bounds within which their arguments are believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .bev_head import BoxDetector
from .panoptic_segmenter import PanopticSegmenter
from .scene_encoder import SceneEncoder, SceneSegmenter
from .sparse_unet import SparseUNet, SparseUNetSegmenter

AnySegmenter = SceneSegmenter | SparseUNetSegmenter | PanopticSegmenter
MAX_LEVELS = 8


@dataclass(frozen=True)
class Architecture:
    """A segmenter, or a detector: an encoder over a ``Pyramid`` with a head.

    Attributes:
        segmenter: takes the encoder and the number of classes; keeps them as ``encoder`` and ``head``.
        encoder: takes the number of input features and arguments; has ``n_levels`` and ``width``.
        lists: arguments with one whole number per level -> least and greatest.
        scalars: arguments that are one whole number -> least and greatest; one that is in both may be either.
    """

    segmenter: type[Any]
    encoder: type[Any]
    lists: Mapping[str, tuple[int, int]]
    scalars: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def build_encoder(self, n_features: int, arguments: Mapping[str, Any]) -> Any:
        """Return the encoder with random weights."""
        return self.encoder(n_features, **arguments)

    def build(self, n_features: int, n_classes: int, arguments: Mapping[str, Any]) -> Any:
        """Return the segmenter with random weights."""
        return self.segmenter(self.build_encoder(n_features, arguments), n_classes)

    def check(self, arguments: Any) -> dict[str, Any]:
        """Bound every argument, so that a hostile header cannot make us build something huge.

        Raises:
            ValueError: an argument is unknown or out of bounds.
        """
        bounds = {**self.lists, **self.scalars}
        for name, value in named(arguments, set(bounds), self.encoder.__name__).items():
            one = name in self.scalars and not (name in self.lists and isinstance(value, list | tuple))
            whole_numbers(name, [value] if one else value, *bounds[name])
        return arguments


def named(arguments: Any, known: set[str], what: str) -> dict[str, Any]:
    """Return the arguments, or raise ValueError where they are none or hold one that ``what`` has not."""
    if not isinstance(arguments, dict) or set(arguments) - known:
        raise ValueError(f"the architecture's arguments {str(arguments)[:200]} are not those of {what}")
    return arguments


def whole_numbers(name: str, items: Any, low: int, high: int, most: int = MAX_LEVELS) -> None:
    """Raise ValueError unless an argument lists 1 to ``most`` whole numbers within bounds."""
    if not isinstance(items, list | tuple) or not 1 <= len(items) <= most:
        raise ValueError(f"the architecture's {name} must list 1 to {most} levels")
    if any(type(v) is not int or not low <= v <= high for v in items):
        raise ValueError(f"the architecture's {name} must be whole numbers {low} .. {high}, got {items}")


_WIDTH, _BLOCKS = (1, 2048), (0, 64)
_UNET = {"widths": _WIDTH, "up_widths": _WIDTH, "blocks": (1, 64), "up_blocks": (1, 64)}
SEGMENTERS = {
    "SceneSegmenter": Architecture(
        SceneSegmenter,
        SceneEncoder,
        lists={"widths": _WIDTH, "local": _BLOCKS, "mixers": _BLOCKS, "heads": (1, 64)},
        scalars={"heads": (1, 64), "d_key": (1, 512), "d_value": (1, 512)},
    ),
    "SparseUNetSegmenter": Architecture(SparseUNetSegmenter, SparseUNet, lists=_UNET),
    "PanopticSegmenter": Architecture(PanopticSegmenter, SparseUNet, lists=_UNET),
    "BoxDetector": Architecture(BoxDetector, SparseUNet, lists=_UNET),
}
