# SPDX-License-Identifier: Apache-2.0
"""Methods of training, one file each: what a sample is, and the loss. Networks are in ``pc_perception.models``."""
