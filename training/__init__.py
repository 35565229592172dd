# SPDX-License-Identifier: Apache-2.0
"""Train and evaluate models: data sets, methods, run configs. Nothing in ``pc_perception`` imports this."""
