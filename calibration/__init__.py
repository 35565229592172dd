# SPDX-License-Identifier: Apache-2.0
"""Camera intrinsics and LiDAR-camera extrinsics with their quality as numbers, in one result file."""
