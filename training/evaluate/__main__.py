# SPDX-License-Identifier: Apache-2.0
"""``python -m training.evaluate``: what ``pc-evaluate`` is."""

import sys

from .command import main

sys.exit(main())
