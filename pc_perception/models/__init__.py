# SPDX-License-Identifier: Apache-2.0
"""Networks: encoders of scenes and of single objects, their parts and heads. Losses are in ``training/methods``."""
