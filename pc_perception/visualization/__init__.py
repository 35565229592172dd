# SPDX-License-Identifier: Apache-2.0
"""Pictures of labelled clouds: a PNG, an interactive page and a legend, all without a display."""

from .grid import render_grid
from .html import Frame, write_html
from .legend import LegendEntry, legend
from .png import render_png

__all__ = ["Frame", "LegendEntry", "legend", "render_grid", "render_png", "write_html"]
