# SPDX-License-Identifier: Apache-2.0
"""Runs: each file assigns ``run``, and opens with what it reproduces, its command, its time and what to expect."""
