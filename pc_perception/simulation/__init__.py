# SPDX-License-Identifier: Apache-2.0
"""Labelled streets and rooms, the LiDARs and cameras that see them, and objects with their insides known."""
