"""The sidecar's configuration as a pod has it: files are laid out as its volumes would be, and the sidecar judges them."""

import base64
import json
import os
import re
import subprocess
import tempfile
from pathlib import Path

from manifests import find, run, selects

UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(duration):
    """`1m 30s` is 90."""
    return sum(float(number) * UNITS[unit] for number, unit in re.findall(r"([\d.]+)\s*(ms|s|m|h|d)", duration))


class Configuration:
    """What `dressipi-sidecar` reads in a pod: `values` by key, and what it says of them."""

    def __init__(self, pod, everything, binary):
        self.values, self.complaints = {}, []
        with tempfile.TemporaryDirectory() as folder:
            self._lay_out(pod, everything, binary, Path(folder))
            asked = [argument for argument in pod.sidecar["args"] if argument.startswith("/")]
            if not asked or not (Path(folder) / asked[0][1:]).is_file():
                self.complaints.append(f"no mounted file is the configuration: {pod.sidecar['args']}")
                return
            self._read(str(Path(folder) / asked[0][1:]), variables(pod), binary)

    def _lay_out(self, pod, everything, binary, root):
        volumes = {volume["name"]: volume for volume in pod.spec.get("volumes") or []}
        mounts = {mount["mountPath"]: volumes.get(mount["name"], {}) for mount in pod.sidecar.get("volumeMounts") or []}
        paths = re.compile("|".join(re.escape(path) + "(?=/)" for path in mounts))
        for path, volume in mounts.items():
            (root / path[1:]).mkdir(parents=True)
            for file, content in files(volume, everything).items():
                if file == "keys":
                    content = run(binary, "keygen").encode()
                if "configMap" in volume:
                    content = paths.sub(lambda found: str(root) + found.group(), content.decode()).encode()
                target = root / path[1:] / file
                target.write_bytes(content)
                target.chmod(volume.get("secret", {}).get("defaultMode", 0o644))

    def _read(self, file, environment, binary):
        environment = {**environment, "PATH": os.environ["PATH"], "NO_COLOR": "1"}
        judged = subprocess.run([binary, "check", "--json", "--config", file], capture_output=True, env=environment, check=False)
        report = json.loads(judged.stdout)
        for one in report["problems"] + report["warnings"]:
            self.complaints.append(f"{one['key']} {one['message']}")
        if not report["problems"]:
            show = [binary, "config", "show", "--json", "--config", file]
            shown = subprocess.run(show, capture_output=True, env=environment, check=True)
            root = str(Path(file).parents[2])
            self.values = {
                key["key"]: key["value"].replace(root, "") if isinstance(key["value"], str) else key["value"]
                for key in json.loads(shown.stdout)["keys"]
            }


def variables(pod):
    return {variable["name"]: variable["value"] for variable in pod.sidecar.get("env") or [] if "value" in variable}


def files(volume, everything):
    """The files of a volume and what is in them; none where there is nothing before the pod runs."""
    for kind, key in (("ConfigMap", "configMap"), ("Secret", "secret")):
        source = volume.get(key)
        if not source:
            continue
        document = find(everything, kind, source.get("name") or source.get("secretName")) or {}
        encoded = base64.b64decode if kind == "Secret" else str.encode
        content = {file: encoded(text) for file, text in (document.get("data") or {}).items()}
        content |= {file: text.encode() for file, text in (document.get("stringData") or {}).items()}
        if items := source.get("items"):
            content = {item["path"]: content[item["key"]] for item in items if item["key"] in content}
        return content
    return {}


def problems(pod, everything, binary):
    """What is wrong with the configuration of a pod's sidecar, by itself and beside the pod."""
    configuration = Configuration(pod, everything, binary)
    values = configuration.values
    found = list(configuration.complaints)
    if values:
        for rule in (_grace, _ports, _store):
            found += rule(pod, values)
        found += _network(pod, values, everything)
    return [f"{pod.name}: {one}" for one in found]


def sleep(container):
    return ((container.get("lifecycle") or {}).get("preStop") or {}).get("sleep", {}).get("seconds", 0)


def _grace(pod, values):
    """A native sidecar is stopped when the others have ended, an ordinary one with them."""
    before = max(sleep(one) for one in pod.spec["containers"]) if is_native(pod) else sleep(pod.sidecar)
    delay, timeout = (seconds(values[f"server.{key}"]) for key in ("drain_delay", "drain_timeout"))
    grace = pod.spec.get("terminationGracePeriodSeconds", 30)
    if before + delay + timeout > grace:
        yield f"terminationGracePeriodSeconds is {grace}, and {before} s + {delay} s + {timeout} s are needed"
    if before == 0:
        yield "nothing waits for the pod to be taken out of its Services"
    for container in pod.spec["containers"]:
        if not is_native(pod) and container is not pod.sidecar and sleep(container) < before + delay:
            yield f"{container['name']} may end while the sidecar still takes requests"


def is_native(pod):
    restarted = [one for one in pod.spec.get("initContainers") or [] if one.get("restartPolicy") == "Always"]
    return any(one is pod.sidecar for one in restarted)


def _ports(pod, values):
    ports = {port["name"]: port["containerPort"] for port in pod.sidecar["ports"]}
    for name, key in (("http", "listeners[0].address"), ("admin", "admin.address")):
        if ports.get(name) != port_of(values[key]):
            yield f"the port {name} is {ports.get(name)}, and {key} is {values[key]}"
    for probe, path in (("startupProbe", "/livez"), ("readinessProbe", "/readyz"), ("livenessProbe", "/livez")):
        asked = (pod.sidecar.get(probe) or {}).get("httpGet") or {}
        if asked.get("path") != path or asked.get("port") != "admin":
            yield f"{probe} does not ask {path} of the admin listener"


def port_of(address):
    """The port of an address or a URL."""
    explicit = re.search(r":(\d+)/?$", address)
    return int(explicit.group(1)) if explicit else {"https": 443, "http": 80, "rediss": 6379, "redis": 6379}[address.split(":")[0]]


def _store(pod, values):
    spec = pod.owner["spec"]
    if values["session.store"] == "redb":
        mounts = {mount["mountPath"]: mount for mount in pod.sidecar["volumeMounts"]}
        mount = mounts.get(str(Path(values["session.path"]).parent), {"readOnly": True})
        claims = {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates") or []}
        if mount.get("readOnly") or mount["name"] not in claims:
            yield f"{values['session.path']} is not on a volume that lasts"
        if pod.owner["kind"] != "StatefulSet" or spec.get("replicas") != 1:
            yield "a redb file is for one replica of a StatefulSet"
    elif pod.owner["kind"] != "Deployment":
        yield f"{pod.owner['kind']} with the store {values['session.store']}"


def _network(pod, values, everything):
    policies = [one["spec"] for one in everything
                if one["kind"] == "NetworkPolicy" and selects(one["spec"]["podSelector"], pod.labels)]
    if not policies:
        return
    types = {kind for policy in policies for kind in policy["policyTypes"]}
    if types != {"Ingress", "Egress"}:
        yield f"its network policies are for {types} only"
    allowed = {port["port"] for policy in policies for rule in policy.get("egress") or [] for port in rule["ports"]}
    needed = {53: "DNS", port_of(values["dressipi.base_url"]): "Dressipi"}
    if values["session.store"] == "redis":
        needed[port_of(values["session.redis.url"])] = "Redis"
    for key, value in values.items():
        if re.fullmatch(r"upstreams\[\d+]\.address", key) and not value.startswith("127."):
            needed[port_of(value)] = value
    yield from (f"no network policy lets it reach {what} on port {port}" for port, what in needed.items() if port not in allowed)
    yield from (f"a network policy lets it reach port {port}, which it does not need" for port in allowed - set(needed))
