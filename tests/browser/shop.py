"""The demo's pages: two visitors side by side, and what each button really does.

Run it with tests/browser/run.
"""

import json
import re
import time
import urllib.request

from pages import PATIENCE_MS, main
from playwright.sync_api import expect

TESTS = []
MASKED = re.compile(r"^[0-9a-f]{4}…[0-9a-f]{2}$")


def test(function):
    TESTS.append(function)
    return function


def ledger(bench):
    with urllib.request.urlopen(f"{bench.demo.dressipi}/__sim/ledger") as answer:
        return json.load(answer)


def opened(bench, **options):
    """The stage, with both visitors personalised."""
    page = bench.visitor(viewport={"width": 1280, "height": 900}, **options)
    page.goto(bench.demo.named)
    one, two = (page.frame_locator(f"#frame-{number}") for number in (1, 2))
    profile(one), profile(two)
    return page, one, two


def profile(visitor):
    """The visitor's profile as shown, once there is one."""
    expect(visitor.locator("#profile")).to_have_text(MASKED)
    return visitor.locator("#profile").inner_text()


def status(visitor, text):
    expect(visitor.get_by_role("status")).to_contain_text(text, timeout=PATIENCE_MS)


def state(visitor, text):
    expect(visitor.locator("#state")).to_contain_text(text, timeout=PATIENCE_MS)


def until(page, holds, what):
    patience = time.monotonic() + PATIENCE_MS / 1000
    while not holds():
        assert time.monotonic() < patience, f"it never came about that {what}"
        page.wait_for_timeout(50)


def press(visitor, name):
    visitor.get_by_role("button", name=name).click()


@test
def shop_shows_two_visitors_with_a_profile_each_and_what_everybody_received(bench):
    page, one, two = opened(bench)
    assert profile(one) != profile(two)
    for visitor in (one, two):
        state(visitor, "Active")
        expect(visitor.locator("#countdown")).to_contain_text(re.compile(r"Refresh in \d+ s · ends in \d+ s"))
        expect(visitor.locator("#items li")).to_have_count(4)
        expect(visitor.locator("#sent")).to_contain_text("none: the page never sees it")
        expect(visitor.locator("#sent")).to_contain_text("dressipi-visitor=")
        expect(visitor.locator("#seen .added")).to_contain_text("x-dressipi-jwt")
        expect(visitor.locator("#received .added")).to_have_count(2)
        expect(visitor.locator("#received")).to_contain_text("none: the sidecar keeps them")
    expect(page.locator("#ratio")).to_have_text("2 : 2 = 1.00")
    steps = page.get_by_role("region", name="What the sidecar did for you").get_by_role("listitem")
    expect(steps.filter(has_text="authorize")).to_have_count(2)
    expect(steps.filter(has_text="of visitor two")).to_have_count(2)
    # No secret is on any page.
    everything = page.content() + "".join(frame.content() for frame in page.frames)
    assert "demo-api-key" not in everything and "eyJ0" not in re.sub(r"eyJ.…", "", everything)
    cookies = {(cookie["domain"], cookie["httpOnly"]) for cookie in page.context.cookies()}
    assert cookies == {("shop.localhost", True), ("second.shop.localhost", True)}, cookies
    bench.shoot(page, "page")


@test
def shop_counts_down_to_the_refresh(bench):
    page, one, _ = opened(bench)
    expect(one.locator("#countdown")).to_contain_text("Refresh in")
    seconds = lambda: int(re.search(r"ends in (\d+) s", one.locator("#countdown").inner_text())[1])
    first = seconds()
    expect(one.locator("#countdown")).not_to_contain_text(f"ends in {first} s")
    assert 0 < seconds() < first <= 60, (first, seconds())


@test
def shop_refreshes_when_the_countdown_is_over_and_nobody_notices(bench):
    settings = urllib.request.Request(
        f"{bench.demo.dressipi}/__sim/settings",
        data=b'{"access_token_lifetime_s": 10}',
        headers={"content-type": "application/json"},
    )
    urllib.request.urlopen(settings).close()
    page, one, _ = opened(bench)
    before = profile(one)
    expect(page.locator("#steps li").filter(has_text="refresh").first).to_be_visible(timeout=PATIENCE_MS)
    status(one, "Same profile, new token")
    expect(one.locator("#why")).to_contain_text("refreshed once")
    assert profile(one) == before
    totals = ledger(bench)["totals"]
    # In the background, in time: no call was without a token, and none with an old one.
    assert (totals["resource"]["unpersonalised"], totals["expired_tokens_received"]) == (0, 0), totals
    bench.shoot(page, "page")


@test
def shop_gives_another_browser_another_profile(bench):
    _, one, two = opened(bench)
    other, *_ = opened(bench)
    assert len({profile(one), profile(two), profile(other.frame_locator("#frame-1"))}) == 3
    assert ledger(bench)["totals"]["profiles"] == 4


@test
def shop_expires_a_token_and_the_profile_stays(bench):
    page, one, two = opened(bench)
    before = profile(one)
    press(one, "Expire the token")
    status(one, "Same profile, new token")
    assert profile(one) == before
    expect(one.locator("#came-expire")).to_contain_text(f"Same profile, new token: {before}")
    state(one, "Active")
    # The other visitor's token is none of it.
    refreshed = {entry["id"][:4]: entry["refreshes"] for entry in ledger(bench)["profiles"]}
    assert (refreshed[before[:4]], refreshed[profile(two)[:4]]) == (1, 0), refreshed
    expect(page.locator("#steps li").filter(has_text="refresh")).to_have_count(1)
    expect(page.locator("#steps li").filter(has_text="answered 401")).to_have_count(1)
    # And again, soon after.
    page.wait_for_timeout(2100)
    press(one, "Expire the token")
    expect(page.locator("#steps li").filter(has_text="refresh")).to_have_count(2)
    assert profile(one) == before
    expect(page.locator("#ratio")).to_have_text("2 : 2 = 1.00")
    bench.shoot(page, "page")


@test
def shop_survives_ten_seconds_without_dressipi(bench):
    page, one, two = opened(bench)
    before = profile(one), profile(two)
    page.get_by_role("button", name="Make Dressipi fail").click()
    for visitor in (one, two):
        status(visitor, "Dressipi does not answer (503)")
    bench.shoot(page, "failing")
    expect(page.locator("#fail-came")).to_contain_text("Dressipi is back", timeout=PATIENCE_MS)
    for visitor in (one, two):
        status(visitor, "hosen for you")
    assert (profile(one), profile(two)) == before
    expect(page.locator("#ratio")).to_have_text("2 : 2 = 1.00")
    bench.shoot(page, "recovered")


@test
def shop_makes_a_new_visitor_of_who_forgets_the_cookie(bench):
    page, one, two = opened(bench)
    before, other = profile(one), profile(two)
    press(one, "Forget the cookie")
    status(one, "A new visitor with one new profile")
    assert profile(one) != before and profile(two) == other
    expect(page.locator("#ratio")).to_have_text("3 : 3 = 1.00")
    bench.shoot(page, "page")


@test
def shop_lets_a_visitor_opt_out_and_back_in(bench):
    page, one, two = opened(bench)
    before, other = profile(one), profile(two)
    press(one, "Opt out")
    state(one, "Anonymous: opted out")
    status(one, "You have opted out")
    expect(one.locator("#profile")).to_have_text("nobody")
    assert {cookie["name"] for cookie in page.context.cookies(bench.demo.named)} == {"dressipi_dnt"}
    expect(one.get_by_role("button", name="Expire the token")).to_be_disabled()
    state(two, "Active")
    bench.shoot(page, "out")
    press(one, "Opt back in")
    status(one, "as a new visitor")
    assert profile(one) != before and profile(two) == other
    expect(page.locator("#ratio")).to_have_text("3 : 3 = 1.00")
    bench.shoot(page, "in")


@test
def shop_loses_an_answer_and_does_not_make_profiles_at_once(bench):
    page, one, _ = opened(bench)
    press(one, "Lose an authorize answer")
    state(one, "Anonymous: an answer was lost")
    status(one, "The answer was lost")
    expect(one.locator("#countdown")).to_contain_text("Next try in")
    expect(page.locator("#steps li.bad, #steps .bad").filter(has_text="the answer was lost")).to_have_count(1)
    assert ledger(bench)["totals"]["profiles"] == 3
    bench.shoot(page, "lost")
    status(one, "The second try was answered")
    state(one, "Active")
    assert ledger(bench)["totals"]["profiles"] == 4
    expect(page.locator("#ratio-why")).to_contain_text("1 profile was lost")
    bench.shoot(page, "found")


@test
def shop_starts_a_second_replica_that_serves_the_same_profiles(bench):
    page, one, two = opened(bench)
    before, other = profile(one), profile(two)
    page.get_by_role("button", name="Start a second replica").click()
    expect(page.locator("#replica-came")).to_contain_text("Replica 2 runs on port")
    page.get_by_role("group", name="Served by").first.get_by_label("replica 2").check()
    expect(page.locator("#replica-came")).to_contain_text("Replica 2 serves visitor one: the same profile")
    expect(one.locator("#replica")).to_contain_text("replica 2")
    assert (profile(one), profile(two)) == (before, other)
    # What one replica does, the other knows.
    press(one, "Expire the token")
    status(one, "Same profile, new token")
    page.get_by_role("group", name="Served by").first.get_by_label("replica 1").check()
    expect(page.locator("#replica-came")).to_contain_text("Replica 1 serves visitor one: the same profile")
    totals = ledger(bench)["totals"]
    assert (totals["profiles"], totals["refresh_reuse"]) == (2, 0), totals
    expect(page.locator("#ratio")).to_have_text("2 : 2 = 1.00")
    bench.shoot(page, "page")


@test
def shop_works_on_a_phone_in_the_dark_and_with_a_keyboard(bench):
    page = bench.visitor(viewport={"width": 360, "height": 740}, color_scheme="dark")
    page.goto(bench.demo.named)
    one = page.frame_locator("#frame-1")
    profile(one), profile(page.frame_locator("#frame-2"))
    for frame in page.frames:
        width = frame.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert width <= 0, f"{frame.url} is {width} pixels too wide"
        ground = frame.evaluate("getComputedStyle(document.body).backgroundColor")
        assert sum(map(int, re.findall(r"\d+", ground)[:3])) < 150, ground
        if frame != page.main_frame:
            # It grows with what is in it, so that nothing scrolls within a page that scrolls. Chromium does not lay out a frame
            # of another host that is out of sight; and the page's policy forbids what `wait_for_function` does.
            frame.frame_element().scroll_into_view_if_needed()
            until(page, lambda: frame.evaluate("document.documentElement.scrollHeight <= innerHeight"), "the frame fits")
    reached = []
    for _ in range(14):
        page.keyboard.press("Tab")
        for frame in page.frames:
            reached.append(frame.evaluate("document.activeElement && document.activeElement.id"))
    for wanted in ["fail", "replica", "reload", "browse", "expire", "forget", "lose", "consent"]:
        assert wanted in reached, (wanted, reached)
    bench.shoot(page, "page")


@test
def shop_shows_one_visitor_where_there_is_no_second_name(bench):
    page = bench.visitor()
    page.goto(bench.demo.front)
    profile(page.frame_locator("#frame-1"))
    expect(page.get_by_role("link", name="http://shop.localhost")).to_be_visible()
    expect(page.locator("#ratio")).to_have_text("1 : 1 = 1.00")
    bench.shoot(page, "page")


if __name__ == "__main__":
    main(TESTS)
