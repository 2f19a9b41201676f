"""Whatever names something: it must be there."""

from manifests import Pod, find, name, of_kind, pods, selects

PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job")


def problems(documents, outside=()):
    """References into nothing. `outside` are objects that others make, such as Secrets."""
    everything = [*documents, *outside]
    found = list(_duplicates(documents))
    for pod in pods(documents):
        found += [f"{pod.name}: {one}" for one in (*_volumes(pod, everything), *_probes(pod), *_workload(pod, documents))]
    for document in documents:
        rule = {
            "Service": _service, "PodDisruptionBudget": _budget, "HorizontalPodAutoscaler": _autoscaler,
            "NetworkPolicy": _policy, "PodMonitor": _monitor, "ServiceMonitor": _service_monitor,
        }.get(document["kind"])
        if rule:
            found += [f"{name(document)}: {one}" for one in rule(document["spec"], documents)]
    return found


def port_names(pod: Pod):
    return {port.get("name") for _, container in pod.containers for port in container.get("ports") or []}


def _selected(documents, selector):
    return [pod for pod in pods(documents) if selects(selector, pod.labels)]


def _duplicates(documents):
    seen = set()
    for document in documents:
        if name(document) in seen:
            yield f"{name(document)} is there twice"
        seen.add(name(document))


def _volumes(pod, everything):
    volumes = {volume["name"]: volume for volume in pod.spec.get("volumes") or []}
    claimed = {claim["metadata"]["name"] for claim in pod.owner["spec"].get("volumeClaimTemplates") or []}
    mounted = {mount["name"] for _, container in pod.containers for mount in container.get("volumeMounts") or []}
    yield from (f"volume {missing} is mounted and not there" for missing in mounted - claimed - set(volumes))
    yield from (f"volume {unused} is not mounted" for unused in (claimed | set(volumes)) - mounted)
    for volume in volumes.values():
        for kind, key in (("ConfigMap", "configMap"), ("Secret", "secret")):
            if source := volume.get(key):
                called = source.get("name") or source.get("secretName")
                yield from _source(kind, called, source.get("items") or [], everything)
        yield from (f"secret volume {volume['name']} is open to others: defaultMode {mode:04o}"
                    for mode in [volume.get("secret", {}).get("defaultMode", 0o644)] if "secret" in volume and mode & 0o027)
    for where, container in pod.containers:
        for variable in container.get("env") or []:
            for kind, key in (("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")):
                if source := (variable.get("valueFrom") or {}).get(key):
                    yield from _source(kind, source["name"], [source], everything)
        yield from (f"{where}: {mount['mountPath']} is a subPath, which never changes"
                    for mount in container.get("volumeMounts") or [] if "subPath" in mount)


def _source(kind, called, items, everything):
    source = find(everything, kind, called)
    if source is None:
        yield f"there is no {kind} {called}"
        return
    keys = set(source.get("data") or {}) | set(source.get("stringData") or {})
    yield from (f"{kind} {called} has no key {item['key']}" for item in items if item["key"] not in keys)


def _probes(pod):
    for where, container in pod.containers:
        own = {port.get("name") for port in container.get("ports") or []}
        for probe in PROBES:
            port = ((container.get(probe) or {}).get("httpGet") or {}).get("port")
            if isinstance(port, str) and port not in own:
                yield f"{where}: {probe} asks the port {port}, which the container does not have"
    names = [port.get("name") for _, container in pod.containers for port in container.get("ports") or []]
    yield from (f"the port {twice} is there twice" for twice in {one for one in names if names.count(one) > 1})


def _workload(pod, documents):
    account = pod.spec.get("serviceAccountName")
    if account and not find(documents, "ServiceAccount", account):
        yield f"there is no ServiceAccount {account}"
    if pod.owner["kind"] not in WORKLOADS:
        return
    spec = pod.owner["spec"]
    if "selector" in spec and not selects(spec["selector"], pod.labels):
        yield "its selector does not select its pods"
    if spec.get("serviceName") and not find(documents, "Service", spec["serviceName"]):
        yield f"there is no Service {spec['serviceName']}"
    for constraint in pod.spec.get("topologySpreadConstraints") or []:
        if not selects(constraint["labelSelector"], pod.labels):
            yield f"its spread by {constraint['topologyKey']} does not select its pods"


def _service(spec, documents):
    selected = _selected(documents, {"matchLabels": spec["selector"]})
    if not selected:
        yield "it selects no pod"
    for pod in selected:
        yield from (f"{pod.name} has no port {port['targetPort']}" for port in spec["ports"]
                    if isinstance(port.get("targetPort"), str) and port["targetPort"] not in port_names(pod))


def _budget(spec, documents):
    selected = _selected(documents, spec["selector"])
    if not selected:
        yield "it selects no pod"
    yield from (f"it lets no pod of {pod.name} go" for pod in selected if pod.owner["spec"].get("replicas") == 1)


def _autoscaler(spec, documents):
    target = spec["scaleTargetRef"]
    workload = find(documents, target["kind"], target["name"])
    if workload is None or workload["apiVersion"] != target["apiVersion"]:
        yield f"there is no {target['kind']} {target['name']}"
        return
    if "replicas" in workload["spec"]:
        yield f"{name(workload)} has replicas of its own"
    containers = {container["name"] for pod in pods([workload]) for _, container in pod.containers}
    yield from (f"{name(workload)} has no container {metric['containerResource']['container']}" for metric in spec["metrics"]
                if metric["type"] == "ContainerResource" and metric["containerResource"]["container"] not in containers)


def _policy(spec, documents):
    selected = _selected(documents, spec["podSelector"])
    if not selected:
        yield "it selects no pod"
    ports = [port["port"] for rule in spec.get("ingress") or [] for port in rule.get("ports") or []]
    named = [port for port in ports if isinstance(port, str)]
    for pod in selected:
        yield from (f"{pod.name} has no port {port}" for port in named if port not in port_names(pod))
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        yield from (f"one of its {direction} rules has no {peers}: that is everybody"
                    for rule in spec.get(direction) or [] if not rule.get(peers))


def _monitor(spec, documents):
    selected = _selected(documents, spec["selector"])
    if not selected:
        yield "it selects no pod"
    for pod in selected:
        yield from (f"{pod.name} has no port {endpoint['port']}" for endpoint in spec["podMetricsEndpoints"]
                    if endpoint["port"] not in port_names(pod))


def _service_monitor(spec, documents):
    services = [one for one in of_kind(documents, "Service") if selects(spec["selector"], one["metadata"].get("labels") or {})]
    if not services:
        yield "it selects no Service"
    for service in services:
        ports = {port["name"] for port in service["spec"]["ports"]}
        yield from (f"{name(service)} has no port {endpoint['port']}" for endpoint in spec["endpoints"]
                    if endpoint["port"] not in ports)
