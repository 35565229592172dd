# SPDX-License-Identifier: Apache-2.0
"""ROS 2 nodes: transport, parameters and life cycle around ``pc_perception``."""
