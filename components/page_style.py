"""The one stylesheet of the pages that a run writes: the run report and the gate's verdict."""

from functools import cache
from pathlib import Path

from markupsafe import Markup


@cache
def page_style() -> Markup:
    """CSS for a page's own `<style>`, so that it stands alone."""
    return Markup(Path(__file__).with_name("page.css").read_text(encoding="utf-8"))
