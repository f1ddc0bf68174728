"""Sphinx configuration of the documentation."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import realtime

project = "Realtime"
author = "The Realtime maintainers"
project_copyright = f"2026, {author}"
version = release = realtime.__version__

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
myst_enable_extensions = ["fieldlist"]

html_theme = "furo"
html_title = f"Realtime {release}"
html_show_sphinx = False
