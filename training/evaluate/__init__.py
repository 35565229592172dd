# SPDX-License-Identifier: Apache-2.0
"""Evaluation protocols, one file each; ``pc-evaluate`` runs segmentation."""

from .segmentation import main

__all__ = ["main"]
