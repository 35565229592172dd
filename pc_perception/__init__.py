# SPDX-License-Identifier: Apache-2.0
"""Labels on live point clouds: encoders, operations and the live path, without ROS."""
