# SPDX-License-Identifier: Apache-2.0
"""``python -m calibration`` is ``pc-calibrate``."""

from calibration.cli import main

raise SystemExit(main())
