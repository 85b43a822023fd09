"""The report as one HTML page."""

from fun_asr.scoring.page.page import render_page

__all__ = ["render_page"]
