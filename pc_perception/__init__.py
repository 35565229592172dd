# SPDX-License-Identifier: Apache-2.0
"""Labels on live point clouds.

    model = pc_perception.load_model("street")
    cloud = pc_perception.read_cloud("sweep.pcd")
    result = model(cloud)          # result.labels, result.confidence, result.label_set

These names are loaded when first used, so that ``import pc_perception`` itself costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import kernel_cache

if TYPE_CHECKING:
    from .cloud import PointCloud
    from .inference.loading import load_model
    from .io.files import read_cloud, write_cloud

__version__ = "0.1.0"
__all__ = ["PointCloud", "load_model", "read_cloud", "write_cloud"]

_HOME = {
    "PointCloud": "cloud",
    "load_model": "inference.loading",
    "read_cloud": "io.files",
    "write_cloud": "io.files",
}

kernel_cache.provide()


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'pc_perception' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f"pc_perception.{_HOME[name]}"), name)
