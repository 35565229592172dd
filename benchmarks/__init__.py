# SPDX-License-Identifier: Apache-2.0
"""Figures of speed and memory: each script prints a table with the machine and the peer in it."""
