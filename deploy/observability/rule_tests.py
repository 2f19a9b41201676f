"""Makes of rule_cases.yaml what `promtool test rules` reads: rule_tests.py RULES CASES > TESTS.

Each alert must have a case. It is looked for in the minute before it fires (quiet), when it fires, in the minute before it is resolved
(still firing) and when it is resolved (quiet); in each of these nobody else's alert of that name may fire.
"""
import re
import sys

import yaml

PREFIX = "dressipi_sidecar_"
SHORT = {"$e{": "visitor_events_total{", "$o{": "oauth_calls_total{", "$r{": "requests_total{",
         "$u{": "unpersonalised_requests_total{"}


def full_name(series):
    for short, name in SHORT.items():
        if series.startswith(short):
            return PREFIX + name + series[len(short):]
    return PREFIX + series[1:] if series.startswith("$") else series


def with_label(series, label):
    return series[:-1] + f",{label}}}" if series.endswith("}") else f"{series}{{{label}}}"


def input_series(case):
    columns = [values for values in case["series"].values() if isinstance(values, list)]
    width = len(columns[0])
    assert width > 1, f"{case['alert']}: nothing comes near it"
    assert all(len(values) == width for values in columns), f"{case['alert']}: one series has fewer values than another"
    for name, values in case["series"].items():
        values = values if isinstance(values, list) else [values] * width
        for index, value in enumerate(values):
            job = "fires" if index == 0 else f"near-{index}"
            series = with_label(full_name(name), f'job="{job}"')
            series = series if "instance=" in series else with_label(series, 'instance="a"')
            yield {"series": series, "values": str(value)}


def expected(rule, case):
    labels = {"job": "fires", **case.get("labels", {})}

    def text(template):
        filled = re.sub(r"\{\{ *\$labels\.(\w+) *\}\}", lambda found: str(labels[found[1]]), template)
        return re.sub(r"\{\{ *\$value[^}]*\}\}", lambda _: str(case["value"]), filled)

    annotations = {key: text(template) for key, template in rule["annotations"].items()}
    return [{"exp_labels": {**labels, **rule["labels"]}, "exp_annotations": annotations}]


def tests(rules, cases):
    alerts = {rule["alert"]: rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule}
    tried = [case["alert"] for case in cases]
    assert sorted(tried) == sorted(alerts), f"alerts and cases differ: {set(tried) ^ set(alerts)}"
    for case in cases:
        name = case["alert"]
        fires, resolved = case["fires"], case["resolved"]
        still = [{"eval_time": f"{fires}m", "alertname": name, "exp_alerts": expected(alerts[name], case)}]
        quiet = [{"eval_time": f"{minute}m", "alertname": name, "exp_alerts": []} for minute in (fires - 1, resolved)]
        # The value may have changed by then, so the state alone is asked for.
        last = {"expr": f'count by (job) (ALERTS{{alertname="{name}",alertstate="firing"}})', "eval_time": f"{resolved - 1}m",
                "exp_samples": [{"labels": '{job="fires"}', "value": 1}]}
        yield {"interval": "1m", "input_series": list(input_series(case)), "alert_rule_test": still + quiet,
               "promql_expr_test": [last]}


def main():
    rules_file, cases_file = sys.argv[1:]
    with open(rules_file) as rules, open(cases_file) as cases:
        rules = yaml.safe_load(rules)
        found = list(tests(rules, yaml.safe_load(cases)))
    # promtool takes the groups in any order otherwise, and what is recorded is a minute late or not.
    order = [group["name"] for group in rules["groups"]]
    yaml.safe_dump({"rule_files": [rules_file], "evaluation_interval": "1m", "group_eval_order": order, "tests": found},
                   sys.stdout, sort_keys=False)


if __name__ == "__main__":
    main()
