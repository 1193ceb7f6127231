"""The HTML page: well formed, all in one file, every number of the sheets in it."""

from html.parser import HTMLParser

import pytest
from support.fake_evaluations import several

from swgctl.evaluation.families import families
from swgctl.evaluation.groups import gather, select
from swgctl.reports import html, sheets
from swgctl.store import Store


class Page(HTMLParser):
    """Its tables as text, its tags and attributes; fails where a tag is closed that is not the last one opened."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.attributes, self.ids = [], [], [], []
        self.tables: list[list[list[str]]] = []

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag != "meta":
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *attribute) for attribute in attrs]
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    groups = gather(select(Store(several(tmp_path_factory.mktemp("several") / "store"))))
    found = families(groups)
    summary, details = sheets.families(found), sheets.tasks(groups, found)
    return html.page(summary, details), [*summary, *details]


@pytest.fixture(scope="module")
def page(made) -> Page:
    found = Page()
    found.feed(made[0])
    found.close()
    return found


def test_every_tag_is_closed(page):
    assert page.open == []
    assert page.tags[:2] == ["html", "head"]
    assert page.tags.count("main") == page.tags.count("h1") == 1


def test_it_needs_nothing_else(made, page):
    text, _ = made
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not [a for a in page.attributes if a[1] in ("src", "onclick", "onload")]
    assert all(value.startswith("#") for _, name, value in page.attributes if name == "href")
    for word in ("url(", "@import", "http:", "https:"):
        assert word not in text


def test_its_links_lead_somewhere(page):
    targets = [value[1:] for _, name, value in page.attributes if name == "href"]
    assert targets
    assert set(targets) <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_its_tables_are_the_sheets(made, page):
    _, told = made
    assert len(page.tables) == len(told)
    for table, sheet in zip(page.tables, told, strict=True):
        assert table[-len(sheet.rows) :] == sheet.rows


def test_it_is_readable_on_a_phone_in_the_dark(made):
    text, _ = made
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    assert "@media (prefers-color-scheme: dark)" in text
    assert "font-variant-numeric: tabular-nums" in text
    assert "overflow-x: auto" in text


def test_names_are_escaped(made):
    text, _ = made
    assert "mine_100" in text
    assert "these groups&#x27; protocols" in text
