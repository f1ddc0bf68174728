"""The demo chat in Chromium, as its users see it."""

import itertools
import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.e2e.chromium import PATIENCE_MS

NARROW = {"width": 360, "height": 740}
WIDE = {"width": 1440, "height": 900}


@pytest.fixture(params=["demo", "demo-redis"])
def demo(request, sites):
    """The demo in one process, and in two that share a Valkey and a PostgreSQL."""
    return sites(request.param)


@pytest.fixture
def visit(browser, demo):
    """Opens pages in windows of their own; none of them may log an error."""
    windows, complaints = [], []
    addresses = itertools.cycle(demo.urls)

    def start(path="/login/", **options):
        window = browser.new_context(base_url=next(addresses), **options)
        window.set_default_timeout(PATIENCE_MS)
        windows.append(window)
        page = window.new_page()
        page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else 0)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path)
        return page

    yield start
    for window in windows:
        window.close()
    assert complaints == []


@pytest.fixture
def enter(visit):
    """Opens the chat as one of the demo accounts, connected."""

    def start(username, room="gaming", **options):
        page = visit(**options)
        page.get_by_test_id(f"login-{username}").click()
        expect(page.get_by_test_id("connection-state")).to_have_attribute("data-state", "connected")
        page.get_by_test_id(f"room-link-{room}").click()
        expect(member(page, username)).to_be_visible()
        return page

    return start


def member(page, name):
    """The row of a person in the list of members."""
    rows = page.locator("[data-testid^=member-]:not([data-testid=member-count])")
    return rows.filter(has_text=re.compile(name, re.IGNORECASE))


def say(page, text):
    page.get_by_test_id("composer").fill(text)
    page.get_by_test_id("send").click()


def message(page, text):
    return page.get_by_test_id("message").filter(has_text=text)


def test_two_people_chat(enter, unique):
    alice, bob = enter("alice"), enter("bob")
    question, answer = unique("Is anybody there? "), unique("I am. ")

    say(alice, question)
    expect(message(bob, question)).to_have_count(1)
    say(bob, answer)

    expect(message(alice, answer)).to_have_count(1)
    expect(message(alice, question)).to_have_count(1)


def test_message_is_text_whatever_it_looks_like(enter, unique):
    alice, bob = enter("alice"), enter("bob")
    text = unique("<img src=x onerror=alert(1)> ")

    say(alice, text)

    expect(message(bob, text)).to_be_visible()


def test_message_is_still_there_after_reloading(enter, unique):
    alice, text = enter("alice"), unique("Remember this: ")

    with alice.expect_response("**/messages"):
        say(alice, text)
    alice.reload()

    expect(message(alice, text)).to_have_count(1)


def test_people_see_each_other_come_and_go(enter):
    alice, bob = enter("alice"), enter("bob")
    expect(member(alice, "bob")).to_be_visible()
    expect(alice.get_by_test_id("member-count")).to_contain_text("2")

    bob.close()

    expect(member(alice, "bob")).to_have_count(0)
    expect(alice.get_by_test_id("member-count")).to_contain_text("1")


def test_changing_the_room_changes_the_people(enter):
    alice, bob = enter("alice"), enter("bob")
    expect(member(alice, "bob")).to_be_visible()

    bob.get_by_test_id("room-link-hobbies").click()

    expect(member(alice, "bob")).to_have_count(0)
    expect(member(bob, "alice")).to_have_count(0)


def test_business_room_marks_the_admin(enter):
    alice = enter("alice", room="business")
    enter("mo", room="business")

    expect(member(alice, "mo")).to_contain_text("admin")
    expect(member(alice, "alice").get_by_text("admin")).to_be_hidden()


def test_typing_is_shown_to_the_others(enter):
    alice, bob = enter("alice"), enter("bob")

    alice.get_by_test_id("composer").press_sequentially("Hm")

    expect(bob.get_by_test_id("typing")).to_contain_text("Alice")


def test_notice_reaches_every_window_of_one_person(enter):
    alice, second, bob = enter("alice"), enter("alice"), enter("bob")

    alice.get_by_test_id("order-button").click()

    for page in (alice, second):
        expect(page.get_by_test_id("notice")).to_contain_text("on its way")
    expect(bob.get_by_test_id("notice")).not_to_contain_text("on its way")


def test_moderator_kicks_from_the_page(enter):
    moderator, bob, alice = enter("mo"), enter("bob"), enter("alice")

    member(moderator, "bob").locator("[data-testid^=kick-]").click()
    moderator.get_by_test_id("kick-confirm").click()

    expect(bob.get_by_test_id("kicked-panel")).to_be_visible()
    expect(bob.get_by_test_id("connection-state")).to_have_attribute("data-state", "disconnected")
    expect(member(alice, "bob")).to_have_count(0)


def test_kicked_person_may_come_back(enter):
    moderator, bob = enter("mo"), enter("bob")
    member(moderator, "bob").locator("[data-testid^=kick-]").click()
    moderator.get_by_test_id("kick-confirm").click()

    bob.get_by_test_id("kicked-panel").get_by_role("button").first.click()

    expect(bob.get_by_test_id("connection-state")).to_have_attribute("data-state", "connected")
    expect(member(moderator, "bob")).to_be_visible()


def test_ordinary_member_cannot_kick(enter):
    alice = enter("alice")
    enter("bob")

    expect(member(alice, "bob")).to_be_visible()
    expect(alice.locator("[data-testid^=kick-]:visible")).to_have_count(0)


def test_admin_kicks_from_the_django_admin(enter):
    admin, carol = enter("admin"), enter("carol")

    admin.goto("/admin/realtime/realtimeuser/")
    admin.locator("#searchbar").fill("Carol")
    admin.locator("#searchbar").press("Enter")
    admin.locator("#result_list tbody").get_by_role("checkbox").check()
    admin.locator("select[name=action]").select_option("kick_selected")
    admin.get_by_role("button", name="Go", exact=True).click()
    admin.locator(".submit-row [type=submit]").click()

    expect(carol.get_by_test_id("kicked-panel")).to_be_visible()
    expect(admin.locator(".messagelist")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [NARROW, WIDE], ids=["narrow", "wide"])
def test_pages_are_accessible(visit, size, scheme):
    for name, page in pages_of(visit, size, scheme):
        results = Axe().run(page)
        assert results.violations_count == 0, f"{name}: {results.generate_report()}"


@pytest.mark.parametrize("size", [NARROW, WIDE], ids=["narrow", "wide"])
def test_pages_never_scroll_sideways(visit, size):
    for name, page in pages_of(visit, size, "light"):
        fits = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        assert page.evaluate(fits), f"{name} is wider than {size['width']}"


def pages_of(visit, size, scheme):
    """The page of every state a visitor can be in, by name."""
    page = visit("/login/", viewport=size, color_scheme=scheme)
    yield "login", page
    page.get_by_test_id("login-mo").click()
    for room in ("gaming", "business"):
        page.goto(f"/rooms/{room}/")
        expect(page.get_by_test_id("connection-state")).to_have_attribute("data-state", "connected")
        expect(page.get_by_test_id("member-count")).to_contain_text("1")
        yield room, page
