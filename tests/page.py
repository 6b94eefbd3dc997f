"""A page that a run wrote, as a reader meets it."""

from html.parser import HTMLParser
from pathlib import Path


class Page(HTMLParser):
    """A page as a reader meets it; refuses unbalanced tags and anything fetched from elsewhere."""

    VOID = ("meta", "br", "line", "circle", "img")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.open, self.links, self.found = path, [], [], {}
        self.words: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "iframe")
        assert tag != "img" or dict(attrs)["src"].startswith("data:")
        self.links += [value for name, value in attrs if name == "href"]
        self.found.setdefault(tag, []).append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.setdefault(tag, []).append(dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)
            self.found[self.open[-1]][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def verdict(self) -> str:
        return self.found["h1"][0]
