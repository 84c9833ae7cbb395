"""The page of an evaluation: one HTML file that needs no network, from measured numbers and the data behind them."""

from confu.runs.evaluating.evaluation_page.page import Evaluated, page_sections, page_summary, write_page

__all__ = ["Evaluated", "page_sections", "page_summary", "write_page"]
