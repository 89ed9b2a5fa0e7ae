"""What is wrong with a built site: what leads nowhere, and what a browser would fetch from elsewhere.

python -m scripts.check_site [FOLDER]
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a page loads by itself, by tag; a link of `rel="next"` loads nothing.
LOADED = {
    "script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src", "embed": "src",
    "object": "data", "link": "href", "use": "href", "image": "href",
}  # fmt: skip
STYLE = re.compile(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)")


@dataclass
class Page(HTMLParser):
    """The anchors of a page, what it loads, and where its links lead."""

    text: str
    anchors: set[str] = field(default_factory=lambda: {""})
    loaded: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    diagrams: bool = False

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        given = {name: value for name, value in attrs if value is not None}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        # The theme's script fetches the library of such a diagram.
        self.diagrams |= "mermaid" in given.get("class", "").split()
        self.loaded += styled(given.get("style", ""))
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif LOADED.get(tag, "") in given:
            self.loaded.append(given[LOADED[tag]])
        self.loaded += [one.split()[0] for one in given.get("srcset", "").split(",") if one.strip()]


def styled(text: str) -> Iterator[str]:
    """What a style sheet loads."""
    for found in STYLE.finditer(text):
        yield found[1] or found[2]


def faults(site: Path) -> list[str]:
    """A line for each thing that leads nowhere or comes from elsewhere, named after the file that has it."""
    site = site.resolve()
    pages = {file: Page(file.read_text(encoding="utf-8")) for file in sorted(site.rglob("*.html"))}
    found = [fault for file, page in pages.items() for fault in _of_page(site, file, page, pages)]
    for sheet in sorted(site.rglob("*.css")):
        for url in styled(sheet.read_text(encoding="utf-8")):
            found += _loaded(site, sheet, url)
    return found


def _of_page(site: Path, file: Path, page: Page, pages: dict[Path, Page]) -> Iterator[str]:
    name = file.relative_to(site)
    if page.diagrams:
        yield f"{name}: a mermaid diagram, whose library would be fetched"
    for url in page.loaded:
        yield from _loaded(site, file, url)
    for url in page.links:
        if elsewhere(url):
            continue
        target = _target(site, file, url)
        if not target.exists():
            yield f"{name}: {url} leads nowhere"
        elif target in pages and unquote(urlsplit(url).fragment) not in pages[target].anchors:
            yield f"{name}: {url} leads to no such place of the page"


def _loaded(site: Path, file: Path, url: str) -> Iterator[str]:
    name = file.relative_to(site)
    if url.startswith(("data:", "#")):
        return
    if elsewhere(url):
        yield f"{name}: {url} would be fetched from elsewhere"
    elif not _target(site, file, url).is_file():
        yield f"{name}: {url} does not exist"


def elsewhere(url: str) -> bool:
    """Whether a URL has a scheme or a host of its own."""
    parts = urlsplit(url)
    return bool(parts.scheme or parts.netloc)


def _target(site: Path, file: Path, url: str) -> Path:
    path = unquote(urlsplit(url).path)  # the page of errors is served at any depth: its paths begin at the root
    target = (site / path.lstrip("/") if path.startswith("/") else file.parent / path).resolve() if path else file
    return target / "index.html" if target.is_dir() else target


if __name__ == "__main__":
    found = faults(Path(sys.argv[1] if len(sys.argv) > 1 else "site"))
    print("\n".join(found))
    sys.exit(bool(found))
