# SPDX-License-Identifier: Apache-2.0
"""Triton kernels, one file per family of operations; imported only where the backend is ``triton``."""
