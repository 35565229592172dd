# SPDX-License-Identifier: Apache-2.0
"""Load a model file and run it on clouds, one scene at a time."""
