"""Lints and renders the chart with each of its ci values, and judges what comes of it with the rules of ../kubernetes.

`check_chart.py --helm FILE --kubectl FILE --binary FILE`; `--update` writes the configuration's schema into values.schema.json."""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import check as kustomize
import rules
from configuration import Configuration
from manifests import SIDECAR, of_kind, parse, pods, run, selects

HERE = Path(__file__).parent
CHART = HERE / "dressipi-sidecar"
SCHEMA = CHART / "values.schema.json"
# Which values render to which overlay's pod.
SAME = {"redis": "overlays/edge-redis", "redb": "overlays/edge-redb", "shop": "overlays/sidecar-native"}
MINIMAL = ["--set", "config.dressipi.base_url=https://dressipi.shop.example"]
# Values that the schema must refuse, and what it must say.
REFUSED = {
    "no Dressipi": ([], "base_url"),
    "an unknown value": ([*MINIMAL, "--set", "replica=3"], "replica"),
    "an unknown key of the configuration": ([*MINIMAL, "--set", "config.server.thread=2"], "thread"),
    "a duration without a unit": ([*MINIMAL, "--set", "config.server.drain_delay=2"], "drain_delay"),
    "a store that forgets": ([*MINIMAL, "--set", "config.session.store=memory"], "store"),
    "two replicas of a redb file": ([*MINIMAL, "--set", "config.session.store=redb,replicas=2"], "replicas"),
    "a redb file that scales": ([*MINIMAL, "--set", "config.session.store=redb,autoscaling.enabled=true"], "autoscaling"),
    "a number as text": ([*MINIMAL, "--set-string", "replicas=3"], "replicas"),
    "a digest that is none": ([*MINIMAL, "--set", "image.digest=latest"], "digest"),
}


def configuration_schema():
    """The configuration's own schema, as a part of another one."""
    schema = json.loads((HERE / "../../config/sidecar.schema.json").read_text())
    return {key: value for key, value in schema.items() if key not in ("$id", "$schema", "title")}


def with_configuration():
    schema = json.loads(SCHEMA.read_text())
    schema["properties"]["config"] = configuration_schema()
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def undescribed(schema, path):
    """Values of ours without a description, and objects that take what they do not know."""
    for name, value in schema.get("properties", {}).items():
        where = f"{path}.{name}"
        if not value.get("description"):
            yield f"{where} has no description"
        if "properties" in value:
            if value.get("additionalProperties") is not False:
                yield f"{where} takes unknown keys"
            yield from undescribed(value, where)


def schema_problems():
    if SCHEMA.read_text() != with_configuration():
        yield "values.schema.json: config is not config/sidecar.schema.json any more: deploy/helm/check --update"
    schema = json.loads(SCHEMA.read_text())
    if schema["additionalProperties"] is not False:
        yield "the schema takes unknown values"
    yield from undescribed(schema, "values")
    described = (CHART / "README.md").read_text()
    yield from (f"README.md does not tell of {value}" for value in schema["properties"]
                if value != "global" and f"`{value}" not in described)


def refusals(helm):
    for what, (arguments, expected) in REFUSED.items():
        done = subprocess.run([helm, "template", CHART, *arguments], capture_output=True, text=True, check=False)
        if done.returncode == 0 or "values don't meet the specifications" not in done.stderr or expected not in done.stderr:
            yield f"{what} is not refused as it should be: {done.stderr or 'it renders'}"


def renderings(helm, shop):
    """What the chart, and the shop's chart with it, render to."""
    for values in sorted((CHART / "ci").glob("*-values.yaml")):
        run(helm, "lint", "--strict", "--quiet", CHART, "--values", values)
        rendered = run(helm, "template", SIDECAR, CHART, "--values", values)
        yield values.name.removesuffix("-values.yaml"), parse(rendered)
    run(helm, "dependency", "build", "--skip-refresh", shop)
    run(helm, "lint", "--strict", "--quiet", shop)
    yield "shop", parse(run(helm, "template", "shop", shop, "--set", "dressipi-sidecar.fullnameOverride=dressipi-sidecar"))


def others(name, secrets):
    """The Secrets that others make."""
    if name == "existing":
        return [{**one, "metadata": {"name": "shop-dressipi"}} for one in secrets if one["metadata"]["name"] == SIDECAR]
    return [] if name == "secrets" else secrets


def untested(documents):
    """Whether `helm test` asks our own pods whether they are ready."""
    service = next((one for one in of_kind(documents, "Service") if _is_test(one)), None)
    pod = next((one for one in pods(documents) if _is_test(one.owner)), None)
    if not service or not pod:
        yield "helm test has nothing to do"
        return
    variable = service["metadata"]["name"].upper().replace("-", "_") + "_SERVICE_HOST"
    asked = f"$({variable}):{service['spec']['ports'][0]['port']}"
    if pod.spec["containers"][0]["args"] != ["healthcheck", "--admin", asked] or not pod.spec["enableServiceLinks"]:
        yield f"helm test does not ask {asked}"
    sidecar = next(one for one in pods(documents) if one.sidecar)
    if not selects({"matchLabels": service["spec"]["selector"]}, sidecar.labels) or selects(
            {"matchLabels": service["spec"]["selector"]}, pod.labels):
        yield "helm test asks other pods than the sidecar's"


def _is_test(document):
    return (document["metadata"].get("annotations") or {}).get("helm.sh/hook") == "test"


def unrolled(helm):
    """Whether a new configuration is rolled out without `reload`, and is not with it."""
    for reload in ("false", "true"):
        annotations = []
        for more in ([], ["--set", "config.log.level=debug"]):
            documents = parse(run(helm, "template", SIDECAR, CHART, *MINIMAL, "--set", f"reload={reload}", *more))
            sidecar = next(pod for pod in pods(documents) if pod.sidecar)
            annotations.append(sidecar.owner["spec"]["template"]["metadata"].get("annotations"))
        if (annotations[0] == annotations[1]) != (reload == "true"):
            yield f"with reload={reload} the annotations are {annotations}"


def notes(helm):
    """What is said after an installation names what has to be done."""
    cases = {
        "reload=false": "wait for the Secret dressipi-sidecar,",
        "reload=true": "config_last_reload_successful",
        "networkPolicy.enabled=false": "WARNING: there is no NetworkPolicy",
    }
    for setting, expected in cases.items():
        said = run(helm, "install", SIDECAR, CHART, "--dry-run=client", *MINIMAL, "--set", setting).partition("NOTES:")[2]
        if expected not in said:
            yield f"NOTES.txt with {setting} does not say: {expected}"


def comparable(pod):
    """A pod without what Helm and Kustomize name differently, and without orders that mean nothing."""
    text = json.dumps(pod.spec, sort_keys=True)
    text = re.sub(r"(dressipi-sidecar)-[0-9a-z]{10}\"", r'\1"', text).replace("sidecar.json", "sidecar.toml")
    spec = json.loads(text)
    for constraint in spec.get("topologySpreadConstraints", []):
        constraint["labelSelector"]["matchLabels"].pop("app.kubernetes.io/instance", None)
    spec["volumes"].sort(key=lambda volume: volume["name"])
    for kind in ("initContainers", "containers"):
        for container in spec.get(kind, []):
            container.get("volumeMounts", []).sort(key=lambda mount: mount["mountPath"])
            container.pop("imagePullPolicy", None)
    return spec


def differences(ours, theirs, path="pod"):
    """Where two values differ."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted(set(ours) | set(theirs)):
            yield from differences(ours.get(key), theirs.get(key), f"{path}.{key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, pair in enumerate(zip(ours, theirs)):
            yield from differences(*pair, f"{path}[{number}]")
    elif ours != theirs:
        yield f"{path} is {ours} with Helm and {theirs} with Kustomize"


def compare(documents, overlay, outside, binary):
    """That both ways to deploy it end in the same pod with the same configuration."""
    ours, theirs = (next(pod for pod in pods(one) if pod.sidecar) for one in (documents, overlay))
    yield from differences(comparable(ours), comparable(theirs))
    values = [Configuration(pod, [*one, *outside], binary).values for pod, one in ((ours, documents), (theirs, overlay))]
    yield from differences(*values, "configuration")


def judge(options, folder):
    """The problems of each rendering."""
    secrets, rendered = kustomize.render(options.kubectl, "secrets"), {}
    shutil.copytree(HERE, folder, dirs_exist_ok=True)
    for name, documents in renderings(options.helm, Path(folder) / "shop"):
        rendered[name] = documents
        found = rules.problems(documents, others(name, secrets), options.binary)
        if name != "shop":
            found += untested(documents)
        yield f"{name}: {len(documents)} objects", found
    overlays = {overlay: kustomize.render(options.kubectl, overlay) for overlay in SAME.values()}
    for name, overlay in SAME.items():
        yield f"{name} is {overlay}", list(compare(rendered[name], overlays[overlay], secrets, options.binary))
    different = list(compare(rendered["redis"], overlays[SAME["redb"]], secrets, options.binary))
    wanted = ("pod.volumes", "configuration.session.store")
    missed = [part for part in wanted if not any(one.startswith(part) for one in different)]
    yield "what differs is seen", missed
    yield "a new configuration is rolled out or followed", list(unrolled(options.helm))
    yield "NOTES.txt", list(notes(options.helm))
    yield f"{len(REFUSED)} values that must be refused", list(refusals(options.helm))
    yield "values.schema.json and README.md", list(schema_problems())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--helm")
    parser.add_argument("--kubectl")
    parser.add_argument("--binary")
    parser.add_argument("--update", action="store_true")
    options = parser.parse_args()
    if options.update:
        SCHEMA.write_text(with_configuration())
        return
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for what, found in judge(options, folder):
            print(f"{what}: {len(found)} problems")
            for problem in found:
                print(f"  {problem}")
            failed = failed or bool(found)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
