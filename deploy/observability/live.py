"""Asks a running Prometheus: live.py URL DASHBOARD. All rules are loaded and have been evaluated without an error; every query of the
dashboard is answered, and with data where it leaves nothing out."""
import json
import sys
import time
import urllib.parse
import urllib.request

# A scrape and an evaluation come every second; rates need a few.
PATIENCE = 60
VARIABLES = {"$__rate_interval": "10s", "$job": ".*", "$instance": ".*"}


def ask(base, path, **parameters):
    query = urllib.parse.urlencode(parameters)
    try:
        with urllib.request.urlopen(f"{base}/api/v1/{path}?{query}", timeout=10) as answer:
            return json.load(answer)["data"]
    except urllib.error.HTTPError as error:
        raise SystemExit(f"error: {parameters or path}: {error.read().decode()}") from None


def rules_are_well(base):
    rules = [rule for group in ask(base, "rules")["groups"] for rule in group["rules"]]
    bad = [rule for rule in rules if rule["health"] == "err" or rule.get("lastError")]
    if bad:
        raise SystemExit("".join(f"error: {rule['name']}: {rule.get('lastError')}\n" for rule in bad))
    return len(rules) if all(rule["health"] == "ok" for rule in rules) else 0


def without_data(base, dashboard):
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"]
            for name, value in VARIABLES.items():
                expression = expression.replace(name, value)
            data = ask(base, "query", query=expression)["result"]
            if not data and "> 0" not in expression:
                yield f"{panel['title']}: {expression}"


def main():
    base, path = sys.argv[1:]
    with open(path) as file:
        dashboard = json.load(file)
    until = time.monotonic() + PATIENCE
    while True:
        try:
            rules, missing = rules_are_well(base), list(without_data(base, dashboard))
        except urllib.error.URLError:
            rules, missing = 0, ["Prometheus does not answer"]
        if rules and not missing:
            break
        if time.monotonic() > until:
            raise SystemExit("".join(f"error: no data: {one}\n" for one in missing) or "error: not all rules were evaluated")
        time.sleep(1)
    firing = sorted({alert["labels"]["alertname"] for alert in ask(base, "alerts")["alerts"] if alert["state"] == "firing"})
    print(f"Prometheus evaluated {rules} rules without an error and has data for the dashboard; firing: {', '.join(firing) or 'none'}")


if __name__ == "__main__":
    main()
