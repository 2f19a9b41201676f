"""One visitor, one profile: many requests at once, through one sidecar or several, and what Dressipi's stand-in has counted."""

import argparse
import concurrent.futures
import http.cookiejar
import json
import urllib.request
import uuid

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
AT_ONCE = 50
TOP = "/api/items/top?client_id=demo"


def get(url, headers=None, opener=urllib.request.build_opener()):
    request = urllib.request.Request(url, headers={"User-Agent": BROWSER} | (headers or {}))
    with opener.open(request, timeout=20) as answer:
        return answer.read()


def profiles_of(calls):
    """The profiles that the calls were personalised for; a call that was not is one of nobody."""
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        return {json.loads(body).get("profile") for body in pool.map(lambda call: call(), calls)}


def named(sidecars, visitor):
    """Parallel first requests of a visitor whom an app names, spread over the sidecars."""
    return profiles_of(
        [
            lambda at=sidecars[number % len(sidecars)]: get(at + TOP, {"x-visitor-id": visitor})
            for number in range(AT_ONCE)
        ]
    )


def browser(sidecar):
    """A browser's first page, and then all that the page asks for at once."""
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
    get(sidecar + "/", opener=opener)
    return profiles_of([lambda: get(sidecar + TOP, opener=opener)] * AT_ONCE)


def ledger(dressipi):
    return json.loads(get(f"{dressipi}/__sim/ledger"))["totals"]["profiles"]


def one(profiles):
    assert len(profiles) == 1 and None not in profiles, f"one visitor was served as {profiles}"
    return profiles.pop()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ledger")
    parser.add_argument("--named", nargs="+")
    parser.add_argument("--pages")
    parser.add_argument("--visitor", default=f"visitor-{uuid.uuid4()}")
    parser.add_argument("--made", type=int, default=1, help="how many profiles the named visitor costs: 0 for who is known")
    arguments = parser.parse_args()
    if arguments.pages:
        print(f"a browser: profile {one(browser(arguments.pages))}")
    if arguments.named:
        before = ledger(arguments.ledger)
        print(f"{AT_ONCE} requests at once: profile {one(named(arguments.named, arguments.visitor))}")
        made = ledger(arguments.ledger) - before
        assert made == arguments.made, f"{made} profiles were made for one visitor"


if __name__ == "__main__":
    main()
