# SPDX-License-Identifier: Apache-2.0
"""Data sets: the simulator, public formats, folders of clouds and recordings, all behind one protocol."""
