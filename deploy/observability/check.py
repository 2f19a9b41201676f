"""Holds rules and dashboard against what the sidecar exports: check.py RULES DASHBOARD SCRAPE GUIDE."""
import itertools
import json
import re
import sys
from collections import defaultdict

import promql_parser as promql
import yaml

# What Prometheus itself adds to a target's series.
TARGET = {"job", "instance", "namespace"}
PREFIX = "dressipi_sidecar_"
# Exported, and used by neither an alert nor a panel. Each with its reason.
UNUSED = {}
# Values that a demonstration does not have and that come from the configuration or an upstream: not compared.
OPEN = {"route", "upstream", "listener", "version", "job", "instance", "state", "le"}


class Exported:
    """The series of a scrape: names, with the values of each label."""

    def __init__(self, text):
        self.families, self.series = {}, defaultdict(lambda: defaultdict(set))
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split()
                self.families[name] = kind
            elif line and not line.startswith("#"):
                name, labels = re.match(r"([^{ ]+)(?:\{(.*)\})? ", line).groups()
                self.series[name]
                for label, value in re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels or ""):
                    self.series[name][label].add(value)

    def family(self, name):
        return name if name in self.families else re.sub(r"_(bucket|sum|count)$", "", name)


def selectors(expression):
    parsed = promql.parse(expression.replace("$__rate_interval", "5m"))
    found = []
    promql.walk(parsed, pre_visit=lambda node: found.append(node) if isinstance(node, promql.VectorSelector) else None)
    return [(found_one.name, found_one.matchers.matchers) for found_one in found]


def values_of(matcher):
    """The values that a matcher names, if they are plain words."""
    kind = str(matcher.op)
    words = [matcher.value] if kind.endswith("Equal") else matcher.value.split("|")
    return [word for word in words if re.fullmatch(r"[\w-]+", word)]


def judge(where, expression, exported, recorded, used):
    """Every selector names a series that is exported, or recorded, with labels and words that it has."""
    try:
        found = selectors(expression)
    except ValueError as error:
        yield f"{where}: {error}"
        return
    if not found:
        yield f"{where}: it names no metric"
    for name, matchers in found:
        if name in recorded:
            used.add(name)
            labels = {label: set() for label in name.split(":")[0].split("_")}
        elif name in ("up", "ALERTS"):
            labels = {}
        elif name in exported.series:
            used.add(exported.family(name))
            labels = exported.series[name]
        else:
            yield f"{where}: nothing exports {name}"
            continue
        for matcher in matchers:
            if matcher.name in TARGET:
                continue
            if matcher.name not in labels:
                yield f"{where}: {name} has no label {matcher.name}"
            elif matcher.name not in OPEN and labels[matcher.name]:
                for value in set(values_of(matcher)) - labels[matcher.name]:
                    yield f"{where}: {name} has no {matcher.name}={value!r}"


def judge_rule(rule, guide):
    for key in ("summary", "description", "runbook_url"):
        if not rule["annotations"].get(key):
            yield f"{rule['alert']}: no {key}"
    if "$value" not in rule["annotations"]["description"]:
        yield f"{rule['alert']}: the description does not tell the value"
    if rule["labels"].get("severity") not in ("critical", "warning"):
        yield f"{rule['alert']}: no severity"
    if rule["annotations"]["runbook_url"] != f"deploy/README.md#{rule['alert'].lower()}":
        yield f"{rule['alert']}: runbook_url leads elsewhere"
    if f"### {rule['alert']}\n" not in guide:
        yield f"{rule['alert']}: deploy/README.md has no section on it"


def overlap(one, other):
    one, other = one["gridPos"], other["gridPos"]
    return (one["x"] < other["x"] + other["w"] and other["x"] < one["x"] + one["w"]
            and one["y"] < other["y"] + other["h"] and other["y"] < one["y"] + one["h"])


def judge_form(dashboard, alerts):
    panels = dashboard["panels"]
    numbers = [panel["id"] for panel in panels]
    if len(set(numbers)) != len(numbers):
        yield "two panels have one id"
    for one, other in itertools.combinations(panels, 2):
        if overlap(one, other):
            yield f"{one['title']} and {other['title']} overlap"
    watched = set()
    for panel in panels:
        where = f"panel {panel['title']!r}"
        place = panel["gridPos"]
        if place["x"] < 0 or place["w"] < 1 or place["x"] + place["w"] > 24:
            yield f"{where}: it leaves the grid"
        if panel["type"] == "row":
            continue
        if not panel.get("description"):
            yield f"{where}: no description"
        if panel["type"] == "alertlist":
            continue
        if not panel["fieldConfig"]["defaults"].get("unit"):
            yield f"{where}: no unit"
        sources = [panel["datasource"]] + [target["datasource"] for target in panel["targets"]]
        if any(source["uid"] != "${datasource}" for source in sources):
            yield f"{where}: its data source is not the variable"
        if not all(target["legendFormat"] for target in panel["targets"]):
            yield f"{where}: a query without a legend"
        watched |= {link["title"] for link in panel["links"]}
    variables = [variable["name"] for variable in dashboard["templating"]["list"]]
    if variables != ["datasource", "job", "instance"]:
        yield f"the variables are {variables}"
    yield from (f"a panel links to the alert {name}, which is none" for name in watched - alerts)
    yield from (f"no panel links to the alert {name}" for name in alerts - watched)


def main():
    rules, dashboard, scrape, guide = (open(path).read() for path in sys.argv[1:])
    rules, dashboard, exported = yaml.safe_load(rules), json.loads(dashboard), Exported(scrape)
    rules = [rule for group in rules["groups"] for rule in group["rules"]]
    recorded = {rule["record"] for rule in rules if "record" in rule}
    alerts = {rule["alert"] for rule in rules if "alert" in rule}
    problems, used = [], set()
    for rule in rules:
        problems += judge(rule.get("alert") or rule["record"], rule["expr"], exported, recorded, used)
        problems += judge_rule(rule, guide) if "alert" in rule else []
    queries = [(panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel.get("targets", [])]
    for title, expression in queries:
        problems += judge(f"panel {title!r}", expression, exported, recorded, used)
    problems += judge_form(dashboard, alerts)
    for variable in dashboard["templating"]["list"][1:]:
        inner = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"])[1]
        problems += judge(f"variable {variable['name']}", inner, exported, recorded, used)
    unused = sorted({name for name in exported.families if name.startswith(PREFIX)} - used)
    for name in unused:
        print(f"exported and used by neither alert nor dashboard: {name}{' (' + UNUSED[name] + ')' if name in UNUSED else ''}")
    problems += [f"{name} is used by nothing: use it, or allow it in check.py" for name in unused if name not in UNUSED]
    problems += [f"{name} is recorded and used by nothing" for name in recorded - used]
    problems += [f"{name} is allowed to be unused, and is used" for name in UNUSED if name not in unused]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    print(f"{len(alerts)} alerts, {len(recorded)} recording rules, {len(queries)} queries of the dashboard, "
          f"{len(exported.families)} exported metrics: {len(problems)} problems")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
