"""What the pages that a run writes have in common: how templates are read, and one stylesheet."""

from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup


def templates(folder: Path) -> jinja2.Environment:
    """The templates of a folder: everything is escaped, and a name that is not there is an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


@cache
def page_style() -> Markup:
    """CSS for a page's own `<style>`, so that it stands alone."""
    return Markup(Path(__file__).with_name("page.css").read_text(encoding="utf-8"))
