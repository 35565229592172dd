# SPDX-License-Identifier: Apache-2.0
"""A loaded model with what belongs to it, where nodes look for it."""

from pc_perception.inference.live_segmenter import Pipeline, device_values, load_pipeline, practice_cloud

__all__ = ["Pipeline", "device_values", "load_pipeline", "practice_cloud"]
