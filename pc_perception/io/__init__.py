# SPDX-License-Identifier: Apache-2.0
"""Clouds, labels, meshes and messages to and from files, bags and DDS; nothing here imports ROS."""
