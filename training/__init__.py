# SPDX-License-Identifier: Apache-2.0
"""Train and evaluate models: data sets, methods, run configs. Nothing in ``pc_perception`` imports this."""

import os

# Threads that wait actively make every step many times slower as soon as another process wants the core
# (docs/training.md). Read by OpenMP when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
