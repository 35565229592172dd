# SPDX-License-Identifier: Apache-2.0
"""Simulated worlds on disk, in the formats that tools and training read."""
