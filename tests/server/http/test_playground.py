"""The playground in a browser: real Chromium, real socket, the fake engine behind it."""

import json
import re
import shutil
import threading
from dataclasses import replace
from importlib.resources import files

import pytest

from fuserank.engine.results import FieldInfo

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="playwright drives the browser: pip install 'fuserank[dev]'"
)
expect = sync_api.expect

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on PATH: apt-get install chromium"
)
STYLE = files("fuserank.server.http").joinpath("playground", "playground.css").read_text()


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def engine(engine):
    kinds = {
        "user_id": "id",
        "age": "number",
        "gender": "category",
        "tags": "categories",
        "profile": "text",
        "history": "history",
        "flavour": "text",
        "taste": "vector",
    }
    fields = tuple(FieldInfo(name=name, kind=kind) for name, kind in kinds.items())
    engine.info = replace(engine.info, user_fields=fields)
    return engine


class Browser:
    """A tab on the playground, and what it asked the server."""

    def __init__(self, tab):
        self.tab, self.requests, self.complaints = tab, [], []
        tab.set_default_timeout(10_000)
        tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        tab.on("console", self._on_console)
        tab.on("request", self._on_request)

    def _on_console(self, message):
        # A refused request is logged by the browser itself.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)

    def _on_request(self, request):
        if request.url.endswith("/api/recommend"):
            self.requests.append(json.loads(request.post_data))

    def open(self, url):
        self.tab.goto(url)
        self.rows = self.tab.locator("#items tbody tr")
        return self

    def expect_items(self, *names):
        expect(self.rows.locator("th b")).to_have_text([f"Film {name} é" for name in names])

    def button(self, name):
        return self.tab.get_by_role("button", name=name, exact=True)


@pytest.fixture
def new_tab(chromium):
    opened = []

    def make(**options):
        tab = chromium.new_page(**options)
        opened.append(Browser(tab))
        return opened[-1]

    yield make
    for browser in opened:
        browser.tab.close()
        assert browser.complaints == []


@pytest.fixture
def browser(new_tab, open_port):
    browser = new_tab().open(open_port().url)
    browser.expect_items(*range(10))
    return browser


def test_it_shows_the_bundle_and_ranked_items_at_once(browser):
    tab = browser.tab
    expect(tab.get_by_role("heading", level=1)).to_have_text("films")
    expect(tab.get_by_label("What is being served")).to_contain_text("version 3")
    expect(tab.get_by_label("What is being served")).to_contain_text("items 20")
    expect(tab.locator("#summary")).to_contain_text("10 items · for a new user · exact")
    first = browser.rows.first
    expect(first).to_contain_text("10.000")
    expect(first).to_contain_text("100.0 %")
    expect(first).to_contain_text("War · 4.5 · 1990 · id 0")
    timings = tab.locator("#timings")
    for stage, shown in [
        ("Tokenize", "1.50"),
        ("Encode", "2.50"),
        ("User model", "0.25"),
        ("Scan", "0.50"),
        ("Other", "0.25"),
        ("Engine", "5.00"),
    ]:
        expect(timings).to_contain_text(f"{stage}{shown} ms")


def test_every_kind_of_field_has_a_control_but_vectors(browser):
    tab = browser.tab
    tab.get_by_label("Age").fill("31.5")
    tab.get_by_label("Gender").fill("F")
    tab.get_by_label("Tags").fill("war , slow,")
    tab.get_by_label("Profile").fill("slow films")
    tab.get_by_label("History", exact=True).fill("0, 2")
    tab.get_by_label("History", exact=True).press("Enter")
    browser.expect_items(1, *range(3, 12))
    assert browser.requests[-1]["user"]["fields"] == {
        "age": {"numberValue": 31.5},
        "gender": {"stringValue": "F"},
        "tags": {"stringList": {"values": ["war", "slow"]}},
        "profile": {"stringValue": "slow films"},
        "history": {"stringList": {"values": ["0", "2"]}},
    }
    assert tab.get_by_label("Taste").count() == 0
    browser.button("Clear all").click()
    browser.expect_items(*range(10))
    assert browser.requests[-1]["user"]["fields"] == {}


def test_a_known_user_is_picked_from_those_the_bundle_knows(browser, engine):
    tab = browser.tab
    with tab.expect_response("**/api/recommend"):
        browser.button("Pick a known user").click()
    assert tab.get_by_label("User id").input_value() in engine.user_ids(7)
    tab.get_by_label("User id").fill("42")
    expect(tab.locator("#summary")).to_contain_text("for a known user")


def test_it_asks_once_after_the_last_key(browser):
    tab = browser.tab
    tab.clock.install(time=0)
    tab.clock.pause_at(1_000)
    before = len(browser.requests)
    profile = tab.get_by_label("Profile")
    for letters in ("slow", "slow sci", "slow science fiction"):
        profile.fill(letters)
        tab.clock.run_for(149)
    assert len(browser.requests) == before
    with tab.expect_response("**/api/recommend"):
        tab.clock.run_for(1)
    [asked] = browser.requests[before:]
    assert asked["user"]["fields"] == {"profile": {"stringValue": "slow science fiction"}}


def test_an_answer_that_was_overtaken_is_not_waited_for(browser, engine):
    tab, go_on = browser.tab, threading.Event()
    engine.before = lambda: go_on.wait(20)
    with tab.expect_request("**/api/recommend"):
        tab.get_by_label("Profile").fill("first")
    with tab.expect_event("requestfailed") as failed:
        tab.get_by_label("User id").fill("42")
    assert "user_id" not in json.loads(failed.value.post_data)["user"]["fields"]
    go_on.set()
    expect(tab.locator("#summary")).to_contain_text("for a known user")
    expect(tab.locator("#results")).to_have_attribute("aria-busy", "false")


def test_items_join_the_history_and_leave_it_by_the_keyboard(browser):
    tab = browser.tab
    browser.button("Add Film 0 é to the history").focus()
    tab.keyboard.press("Enter")
    browser.expect_items(*range(1, 11))
    expect(tab.locator("#results")).to_be_focused()  # the button is gone, the place is not
    chosen = tab.get_by_label("Chosen items, the latest last")
    expect(chosen).to_contain_text("Film 0 é")
    browser.button("Remove Film 0 é").focus()
    tab.keyboard.press("Space")
    browser.expect_items(*range(10))
    expect(chosen).to_have_text("")


def test_the_focus_stays_on_an_item_that_stays(browser):
    browser.button("Hide Film 5 é").focus()
    browser.tab.get_by_label("How many").evaluate(
        "box => { box.value = 8; box.dispatchEvent(new Event('input')); }"
    )
    browser.expect_items(*range(8))
    expect(browser.button("Hide Film 5 é")).to_be_focused()


def test_hidden_items_stay_away_until_they_are_shown_again(browser):
    browser.button("Hide Film 1 é").click()
    browser.expect_items(0, *range(2, 11))
    browser.button("Hide Film 2 é").click()
    browser.expect_items(0, *range(3, 12))
    assert browser.requests[-1]["eligibility"]["exclude"] == ["1", "2"]
    browser.button("Remove Film 1 é").click()
    browser.expect_items(0, 1, *range(3, 11))


def test_filters_come_from_the_attributes_of_the_items(browser):
    tab = browser.tab
    for attribute in ("year", "genres"):
        browser.button("Add a filter").click()
        tab.get_by_label("Attribute").last.select_option(attribute)
    assert tab.get_by_label("Attribute").first.locator("option").all_inner_texts() == [
        "genres",
        "stars",
        "year",
    ]
    tab.get_by_label("At least").fill("1980")
    with tab.expect_response("**/api/recommend"):
        tab.get_by_label("Is", exact=True).fill("War")
    expect(tab.locator("#results")).to_have_attribute("aria-busy", "false")
    assert browser.requests[-1]["eligibility"]["where"] == [
        {"attribute": "year", "range": {"least": 1980}},
        {"attribute": "genres", "equals": {"stringValue": "War"}},
    ]
    with tab.expect_response("**/api/recommend"):
        browser.button("Remove the filter").first.click()
    assert [one["attribute"] for one in browser.requests[-1]["eligibility"]["where"]] == ["genres"]


def test_where_nothing_is_eligible_it_says_so(browser):
    for index in range(20):
        browser.tab.get_by_label("History", exact=True).fill(str(index))
        browser.button("Add to the history").click()
    expect(browser.tab.get_by_text("No item may come")).to_be_visible()
    expect(browser.rows).to_have_count(0)


def test_what_the_server_refuses_is_shown_until_it_is_mended(browser):
    tab = browser.tab
    tab.get_by_label("Flavour").fill("sweet")
    expect(tab.get_by_role("alert")).to_have_text("user: this bundle has no field 'flavour'")
    expect(browser.rows.first).to_be_hidden()
    tab.get_by_label("Flavour").fill("")
    expect(tab.get_by_role("alert")).to_be_hidden()
    browser.expect_items(*range(10))


def test_titles_are_text_whatever_they_hold(new_tab, open_port, engine):
    title = "<img src=x onerror='document.title=\"owned\"'><b>bold</b>"
    engine.attributes = lambda ids: [{"title": title, "genres": ["<i>War</i>"]} for _ in ids]
    browser = new_tab().open(open_port().url)
    expect(browser.rows.first.locator("th b")).to_have_text(title)
    assert browser.tab.locator("#items img, #items i i, #items small i").count() == 0
    assert "owned" not in browser.tab.title()


def test_the_browser_refuses_scripts_that_are_put_into_the_page(browser):
    browser.tab.evaluate(
        "document.body.append(Object.assign(document.createElement('script'),"
        " { textContent: 'window.injected = true' }))"
    )
    assert browser.tab.evaluate("window.injected") is None
    assert "Content Security Policy" in browser.complaints.pop()
    assert browser.complaints == []


def test_a_token_is_asked_for_and_used(new_tab, open_port):
    browser = new_tab().open(open_port(authorised=lambda header: header == "Bearer right").url)
    token = browser.tab.get_by_label("This server asks for a token")
    expect(token).to_be_focused()
    token.fill("wrong")
    browser.button("Use it").click()
    expect(browser.tab.get_by_text("a token is needed, or another one")).to_be_visible()
    expect(token).to_have_value("")
    token.fill("right")
    token.press("Enter")
    browser.expect_items(*range(10))
    expect(token).to_be_hidden()


def test_it_waits_for_a_bundle_that_loads(new_tab, open_port):
    page = open_port(loaded=False)
    browser = new_tab().open(page.url)
    expect(browser.tab.get_by_text("still loading")).to_be_visible()
    page.load()
    browser.expect_items(*range(10))


def test_every_control_has_a_name(browser):
    browser.button("Add a filter").click()
    browser.button("Hide Film 1 é").click()
    browser.button("Add Film 0 é to the history").click()
    expect(browser.tab.get_by_label("Chosen items, the latest last")).to_contain_text("Film 0")
    for role in ("textbox", "combobox", "slider", "checkbox", "button", "spinbutton"):
        for control in browser.tab.get_by_role(role).all():
            named = control.evaluate(
                "el => (el.ariaLabel || [...(el.labels ?? [])].map(l => l.textContent).join('')"
                " || (el.tagName === 'BUTTON' ? el.textContent : '')).trim()"
            )
            assert named, control.evaluate("el => el.outerHTML")


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_is_wider_than_the_screen(new_tab, open_port, width):
    browser = new_tab(viewport={"width": width, "height": 800}).open(open_port().url)
    browser.expect_items(*range(10))
    browser.button("Add a filter").click()
    assert browser.tab.evaluate("document.documentElement.scrollWidth") <= width


def test_it_follows_the_colours_of_the_system(new_tab, open_port):
    url = open_port().url
    ground = []
    for scheme in ("light", "dark"):
        browser = new_tab(color_scheme=scheme).open(url)
        ground.append(browser.tab.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert ground == ["rgb(252, 252, 250)", "rgb(21, 24, 27)"]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_what_it_is_written_on(scheme):
    block = re.findall(r":root \{(.*?)\}", STYLE, re.S)[scheme]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]+);", block))
    pairs = [
        (text, ground) for text in ("ink", "quiet", "c0", "c2") for ground in ("page", "raised")
    ]
    for text, ground in [*pairs, ("ink", "track"), ("bad", "track"), ("on-accent", "c0")]:
        assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    assert contrast(colours["edge"], colours["raised"]) >= 3.0


def contrast(one, other):
    """Return the contrast ratio of two colours (WCAG 2.2)."""

    def luminance(colour):
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        channels = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
