"""Look for broken links, missing images, and resources that a page would load from the network."""

import re
from functools import cache
from html.parser import HTMLParser
from os.path import normpath
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The links, resources and anchors of a page."""

    def __init__(self, path: Path):
        super().__init__()
        self.links: set[str] = set()  # the reader may follow
        self.resources: set[str] = set()  # the browser loads
        self.anchors = {"", "top"}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect the link, the resource and the anchors of one tag."""
        values = {name: value for name, value in attrs if value}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.add(values["href"])
        elif tag == "link" and values.get("rel") not in ("canonical", "next", "prev", "search"):
            self.resources.add(values["href"])
        elif tag in ("img", "script", "iframe", "source", "video", "audio") and "src" in values:
            self.resources.add(values["src"])


def find_problems(site: Path) -> list[str]:
    """Faults of a folder of HTML pages, one sentence each; an empty list if there are none."""
    site = site.resolve()
    holds_something = cache(lambda file: file.is_file() and file.stat().st_size > 0)
    pages = {path: Page(path) for path in sorted(site.rglob("*.html"))}
    problems = [] if pages else [f"{site} has no pages"]
    for path, page in pages.items():
        where = path.relative_to(site)
        for target in sorted(page.links | page.resources):
            scheme = urlsplit(target).scheme or ("https" if target.startswith("//") else "")
            if scheme == "data" or (scheme in ("http", "https", "mailto") and target in page.links):
                continue
            if scheme:
                problems.append(f"{where} loads {target[:80]} from outside")
                continue
            file = path.parent / unquote(urlsplit(target).path) if urlsplit(target).path else path
            file = Path(normpath(file))
            if not file.is_relative_to(site) or not holds_something(file):
                problems.append(f"{where} refers to {target}, which is not there")
            elif file in pages and unquote(urlsplit(target).fragment) not in pages[file].anchors:
                problems.append(f"{where} refers to {target}, a place that page does not have")
    for path in sorted(site.rglob("*.css")):
        for address in re.findall(r"url\(['\"]?((?:https?:)?//[^)'\"]+)", path.read_text()):
            problems.append(f"{path.relative_to(site)} loads {address} from outside")
    return problems
