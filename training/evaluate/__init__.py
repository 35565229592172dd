# SPDX-License-Identifier: Apache-2.0
"""Evaluation protocols, one file each; ``pc-evaluate`` runs those of models that give labels."""

from .command import main

__all__ = ["main"]
