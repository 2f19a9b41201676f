"""The status page as people see it, and what all browser tests have in common: each has a demo process and visitors of its own.

A line on the browser's console that is an error fails the test. Run it with tests/browser/run.
"""

import argparse
import contextlib
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import time
import traceback

from playwright.sync_api import expect, sync_playwright

# A headless browser says that it is one, and bots get no profile.
USER_AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
PATIENCE_MS = 20_000

TESTS = []


def test(function):
    TESTS.append(function)
    return function


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Demo:
    """`dressipi-sidecar demo` on ports of its own."""

    def __init__(self, binary):
        front, dressipi, shop, admin = free_ports(4)
        self.front, self.admin = (f"http://127.0.0.1:{port}" for port in (front, admin))
        self.dressipi = f"http://127.0.0.1:{dressipi}"
        # The name under which two visitors fit into one window.
        self.named = f"http://shop.localhost:{front}"
        environment = os.environ | {
            "SIDECAR__LISTENERS__0__ADDRESS": f"127.0.0.1:{front}",
            "SIDECAR__DRESSIPI__BASE_URL": self.dressipi,
            "SIDECAR__UPSTREAMS__0__ADDRESS": f"127.0.0.1:{shop}",
            "SIDECAR__ADMIN__ADDRESS": f"127.0.0.1:{admin}",
        }
        self.process = subprocess.Popen(
            [binary, "demo"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        for line in self.process.stdout:
            if "Ctrl-C" in line:
                return
        raise RuntimeError("the demo did not start")

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=30)


class Bench:
    """A demo, a browser, and the pages that were opened."""

    def __init__(self, browser, binary, out, name):
        self.browser, self.out, self.name = browser, out, name
        self.demo = Demo(binary)
        self.errors = []
        self.contexts = []

    def visitor(self, **options):
        """A page of a visitor whom nobody knows yet."""
        context = self.browser.new_context(user_agent=USER_AGENT, **options)
        context.set_default_timeout(PATIENCE_MS)
        self.contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: self.hear(message.type, message.text))
        page.on("pageerror", lambda error: self.hear("error", str(error)))
        return page

    def hear(self, kind, text):
        # That an answer was no success is Chromium's line about what the page itself shows.
        if kind == "error" and "Failed to load resource" not in text:
            self.errors.append(text)

    def shoot(self, page, name):
        page.screenshot(path=self.out / f"{self.name}-{name}.png", full_page=True)

    def close(self):
        for context in self.contexts:
            context.close()
        self.demo.stop()


# === the status page ===


@test
def status_page_without_data_is_calm_and_complete(bench):
    page = bench.visitor()
    page.goto(f"{bench.demo.admin}/status")
    expect(page.get_by_text("All is well.")).to_be_visible()
    for heading in ["The last hour", "OAuth calls to Dressipi", "Upstreams", "Visitor sessions", "Configuration"]:
        expect(page.get_by_role("heading", name=heading)).to_be_visible()
    expect(page.get_by_text("None did.")).to_be_visible()
    assert page.get_by_text("NaN").count() == 0
    bench.shoot(page, "page")


@test
def status_page_shows_what_happened_and_looks_again_by_itself(bench):
    shop, page = bench.visitor(), bench.visitor()
    page.goto(f"{bench.demo.admin}/status")
    shop.goto(bench.demo.front)
    expect(shop.get_by_text(re.compile("Chosen for|profile", re.I)).first).to_be_visible()
    # No reload: the page asks again.
    authorize = page.get_by_role("region", name="OAuth calls").get_by_role("row", name="authorize")
    expect(authorize).to_contain_text("1, 0 failed", timeout=PATIENCE_MS)
    tile = page.locator(".tiles li", has_text="Profiles ÷ visitors")
    expect(tile).to_contain_text("1.00")
    expect(page.locator(".tiles li", has_text="Personalised")).to_contain_text("100.0 %")
    bench.shoot(page, "page")


@test
def status_page_works_on_a_phone_in_the_dark_and_with_a_keyboard(bench):
    page = bench.visitor(viewport={"width": 360, "height": 740}, color_scheme="dark")
    page.goto(f"{bench.demo.admin}/status")
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 360, f"{width} pixels wide"
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(map(int, re.findall(r"\d+", ground)[:3])) < 150, ground
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "live"
    page.keyboard.press("Space")
    expect(page.locator("#live")).not_to_be_checked()
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent.trim()"))
    assert "metrics" in reached, reached
    bench.shoot(page, "page")


@test
def status_page_says_that_it_is_old_when_the_sidecar_is_gone(bench):
    page = bench.visitor()
    page.goto(f"{bench.demo.admin}/status")
    bench.demo.stop()
    expect(page.get_by_text("what you see is old")).to_be_visible(timeout=PATIENCE_MS)
    bench.errors.clear()
    bench.shoot(page, "page")


def passes(bench, function, attempt):
    begun = time.monotonic()
    try:
        function(bench)
        assert not bench.errors, f"on the console: {bench.errors}"
        print(f"ok     {bench.name} ({time.monotonic() - begun:.1f} s{attempt})", flush=True)
        return True
    except Exception:
        print(f"FAILED {bench.name}{attempt}", flush=True)
        traceback.print_exc()
        for number, context in enumerate(bench.contexts):
            for page in context.pages:
                with contextlib.suppress(Exception):
                    page.screenshot(path=bench.out / f"{bench.name}-failed-{number}.png", full_page=True)
        return False
    finally:
        bench.close()


def main(tests):
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("filter", nargs="?", default="")
    arguments = parser.parse_args()
    failed = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for function in tests:
            name = function.__name__
            if arguments.filter not in name:
                continue
            # A browser beside other work may be late: what fails is tried once more, and both are told.
            for attempt in ("", ", second attempt"):
                if passes(Bench(browser, arguments.binary, arguments.out, name), function, attempt):
                    break
            else:
                failed.append(name)
        browser.close()
    print(f"{len(failed)} failed; screenshots: {arguments.out}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main(TESTS)
