"""The Pod Security Standard `restricted`, which has the controls of `baseline` in it, control by control:
https://kubernetes.io/docs/concepts/security/pod-security-standards/"""

RESTRICTED_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
}
SAFE_SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start", "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
}
SELINUX_TYPES = {None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def problems(pod):
    """What the standard refuses in a pod."""
    security = pod.spec.get("securityContext") or {}
    for found in _pod(pod, security):
        yield f"{pod.name}: {found}"
    for where, container in pod.containers:
        own = container.get("securityContext") or {}
        for found in [*_container(container, own), *_either(security, own)]:
            yield f"{pod.name} {where}: {found}"


def _pod(pod, security):
    for namespace in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.spec.get(namespace):
            yield f"{namespace} is on"
    for volume in pod.spec.get("volumes") or []:
        kinds = set(volume) - {"name"}
        if not kinds <= RESTRICTED_VOLUMES:
            yield f"volume {volume['name']} is of a kind that is not allowed: {kinds}"
    for sysctl in security.get("sysctls") or []:
        if sysctl["name"] not in SAFE_SYSCTLS:
            yield f"sysctl {sysctl['name']} is not allowed"
    yield from _options(security)
    if security.get("runAsUser") == 0:
        yield "runAsUser is 0"
    if any("apparmor" in key for key in (pod.owner["metadata"].get("annotations") or {})):
        yield "AppArmor belongs into the securityContext"


def _container(container, own):
    if own.get("privileged"):
        yield "it is privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    capabilities = own.get("capabilities") or {}
    if capabilities.get("drop") != ["ALL"]:
        yield "not ALL capabilities are dropped"
    if not set(capabilities.get("add") or []) <= {"NET_BIND_SERVICE"}:
        yield f"capabilities are added: {capabilities['add']}"
    if any(port.get("hostPort") for port in container.get("ports") or []):
        yield "it has a hostPort"
    if own.get("procMount", "Default") != "Default":
        yield "procMount is not Default"
    if own.get("runAsUser") == 0:
        yield "runAsUser is 0"
    yield from _options(own)
    handlers = [container.get(probe) for probe in PROBES] + list((container.get("lifecycle") or {}).values())
    for handler in filter(None, handlers):
        for action in ("httpGet", "tcpSocket"):
            if (handler.get(action) or {}).get("host"):
                yield f"a probe or a hook names a host: {handler[action]['host']}"


def _options(context):
    """What is not allowed to be there, in a pod's or in a container's context."""
    if context.get("seccompProfile", {}).get("type") == "Unconfined":
        yield "seccomp is Unconfined"
    if context.get("appArmorProfile", {}).get("type") == "Unconfined":
        yield "AppArmor is Unconfined"
    selinux = context.get("seLinuxOptions") or {}
    if selinux.get("type") not in SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield f"SELinux options are set: {selinux}"
    if (context.get("windowsOptions") or {}).get("hostProcess"):
        yield "it is a Windows host process"


def _either(security, own):
    """What must be there in the container's context, or in the pod's where the container says nothing."""
    if own.get("runAsNonRoot", security.get("runAsNonRoot")) is not True:
        yield "runAsNonRoot is not true"
    seccomp = own.get("seccompProfile", security.get("seccompProfile")) or {}
    if seccomp.get("type") not in ("RuntimeDefault", "Localhost"):
        yield "no seccomp profile is set"


def hardened(pod):
    """What we ask of the sidecar's container and pod beyond the standard."""
    own = pod.sidecar.get("securityContext") or {}
    for key, wanted in {"readOnlyRootFilesystem": True, "runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532}.items():
        if own.get(key) != wanted:
            yield f"{pod.name}: the sidecar's {key} is not {wanted}"
    if own.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield f"{pod.name}: the sidecar's own seccomp profile is not RuntimeDefault"
    if pod.spec.get("automountServiceAccountToken") is not False:
        yield f"{pod.name}: a service account token is mounted"
    resources = pod.sidecar.get("resources") or {}
    for missing in [f"{side}.{what}" for side, what in (("requests", "cpu"), ("requests", "memory"), ("limits", "memory"))
                    if what not in resources.get(side, {})]:
        yield f"{pod.name}: the sidecar has no resources.{missing}"
    if ":" not in pod.sidecar["image"].rpartition("/")[2] or pod.sidecar["image"].endswith(":latest"):
        yield f"{pod.name}: the image {pod.sidecar['image']} is not of one version"
