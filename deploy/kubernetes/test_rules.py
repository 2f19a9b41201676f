"""That the rules find what they are for: each of these changes to what is rendered must be complained about.

`test_rules.py --kubectl FILE --binary FILE`."""

import argparse
import copy
import sys
import unittest

import check
import rules
from manifests import SIDECAR, find, pods

POD = {"native": "sidecar-native", "classic": "sidecar-classic", "redb": "edge-redb", "edge": "edge-redis"}


class Rendered:
    """What an overlay renders to, to be changed."""

    def __init__(self, documents):
        self.documents = copy.deepcopy(documents)

    def __getitem__(self, which):
        kind, _, called = which.partition("/")
        return find(self.documents, kind, called or SIDECAR)

    @property
    def pod(self):
        return next(pod for pod in pods(self.documents) if pod.sidecar)

    @property
    def sidecar(self):
        return self.pod.sidecar

    @property
    def configuration(self):
        return next(one["data"] for one in self.documents if one["kind"] == "ConfigMap")

    def remove(self, which):
        self.documents.remove(self[which])

    def replace(self, old, new):
        text = self.configuration["sidecar.toml"]
        assert old in text, f"{old} is not in the configuration"
        self.configuration["sidecar.toml"] = text.replace(old, new)


def change(target, **values):
    target.update(values)


# What is changed, in which overlay, and what must be said of it.
POD_SECURITY = [
    (lambda one: change(one.pod.spec, hostNetwork=True), "hostNetwork is on"),
    (lambda one: change(one.pod.spec, hostPID=True), "hostPID is on"),
    (lambda one: change(one.pod.spec, hostIPC=True), "hostIPC is on"),
    (lambda one: one.pod.spec["volumes"].append({"name": "x", "hostPath": {"path": "/"}}), "volume x is of a kind"),
    (lambda one: change(one.pod.spec["securityContext"], sysctls=[{"name": "kernel.msgmax", "value": "1"}]),
     "kernel.msgmax is not allowed"),
    (lambda one: change(one.pod.spec["securityContext"], seLinuxOptions={"type": "spc_t"}), "SELinux options are set"),
    (lambda one: change(one.pod.spec["securityContext"], runAsUser=0), "runAsUser is 0"),
    (lambda one: change(one.pod.spec["securityContext"], windowsOptions={"hostProcess": True}), "Windows host process"),
    (lambda one: change(one.sidecar["securityContext"], privileged=True), "it is privileged"),
    (lambda one: one.sidecar["securityContext"].pop("allowPrivilegeEscalation"), "allowPrivilegeEscalation is not false"),
    (lambda one: one.sidecar["securityContext"].pop("capabilities"), "not ALL capabilities are dropped"),
    (lambda one: change(one.sidecar["securityContext"]["capabilities"], add=["SYS_ADMIN"]), "capabilities are added"),
    (lambda one: change(one.sidecar["ports"][0], hostPort=8080), "it has a hostPort"),
    (lambda one: change(one.sidecar["securityContext"], procMount="Unmasked"), "procMount is not Default"),
    (lambda one: change(one.sidecar["securityContext"], appArmorProfile={"type": "Unconfined"}), "AppArmor is Unconfined"),
    (lambda one: change(one.sidecar["securityContext"], seccompProfile={"type": "Unconfined"}), "seccomp is Unconfined"),
    (lambda one: change(one.sidecar["livenessProbe"]["httpGet"], host="10.0.0.1"), "names a host"),
    (lambda one: change(one.sidecar["securityContext"], runAsNonRoot=False), "runAsNonRoot is not true"),
    (lambda one: change(one.sidecar["securityContext"], readOnlyRootFilesystem=False), "readOnlyRootFilesystem is not True"),
    (lambda one: one.pod.spec.pop("automountServiceAccountToken"), "a service account token is mounted"),
    (lambda one: one.sidecar["resources"]["limits"].pop("memory"), "no resources.limits.memory"),
    (lambda one: change(one.sidecar, image=SIDECAR), "is not of one version"),
]
SCHEMAS = [
    ("edge", lambda one: change(one["Deployment"]["spec"], replica=3),
     "Kubernetes 1.30.0: spec: Additional properties are not allowed"),
    ("edge", lambda one: change(one.sidecar, restartPolicy="OnFailure", terminationGrace=1), "Kubernetes 1.37.0"),
    ("edge", lambda one: change(one["Service"]["spec"]["ports"][0], port="http"),
     "Service/dressipi-sidecar in Kubernetes 1.34.0"),
    ("edge", lambda one: change(one["HorizontalPodAutoscaler"], apiVersion="autoscaling/v2beta1"), "find schema"),
    ("edge", lambda one: change(one["PodMonitor"]["spec"]["podMetricsEndpoints"][0], intervall="30s"),
     "fields that monitoring.coreos.com/v1"),
    ("edge", lambda one: one["PodMonitor"]["spec"].pop("selector"), "selector"),
]
REFERENCES = [
    ("edge", lambda one: one.documents.append(one["Service"]), "Service/dressipi-sidecar is there twice"),
    ("edge", lambda one: change(one.pod.spec["volumes"][0]["configMap"], name="other"), "there is no ConfigMap other"),
    ("edge", lambda one: change(one.pod.spec["volumes"][1]["secret"], secretName="other"), "there is no Secret other"),
    ("edge", lambda one: change(one.pod.spec["volumes"][2]["secret"]["items"][0], key="pass"), "has no key pass"),
    ("edge", lambda one: change(one.pod.spec["volumes"][1]["secret"], defaultMode=0o444), "is open to others: defaultMode 0444"),
    ("edge", lambda one: one.pod.spec["volumes"].pop(0), "dressipi-sidecar-config is mounted and not there"),
    ("edge", lambda one: one.sidecar["volumeMounts"].pop(2), "volume dressipi-sidecar-redis is not mounted"),
    ("edge", lambda one: change(one.sidecar["volumeMounts"][0], subPath="sidecar.toml"), "is a subPath"),
    ("edge", lambda one: change(one.sidecar["readinessProbe"]["httpGet"], port="ready"), "readinessProbe asks the port ready"),
    ("edge", lambda one: change(one.sidecar["ports"][0], name="admin"), "the port admin is there twice"),
    ("edge", lambda one: one.remove("ServiceAccount"), "there is no ServiceAccount"),
    ("edge", lambda one: change(one.pod.labels, **{"app.kubernetes.io/name": "x"}), "its selector does not select its pods"),
    ("edge", lambda one: change(one.pod.spec["topologySpreadConstraints"][0], labelSelector={"matchLabels": {"a": "b"}}),
     "does not select its pods"),
    ("redb", lambda one: one.remove("Service"), "there is no Service dressipi-sidecar"),
    ("edge", lambda one: change(one["Service"]["spec"], selector={"a": "b"}), "Service/dressipi-sidecar: it selects no pod"),
    ("edge", lambda one: change(one["Service"]["spec"]["ports"][0], targetPort="web"), "has no port web"),
    ("edge", lambda one: change(one["PodDisruptionBudget"]["spec"], selector={"matchLabels": {"a": "b"}}), "it selects no pod"),
    ("edge", lambda one: change(one["Deployment"]["spec"], replicas=1), "it lets no pod of"),
    ("edge", lambda one: change(one["Deployment"]["spec"], replicas=2), "has replicas of its own"),
    ("edge", lambda one: change(one["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"], name="x"), "there is no Deployment x"),
    ("edge", lambda one: change(one["HorizontalPodAutoscaler"]["spec"]["metrics"][0]["containerResource"], container="x"),
     "no container x"),
    ("edge", lambda one: change(one["NetworkPolicy"]["spec"], podSelector={"matchLabels": {"a": "b"}}),
     "NetworkPolicy/dressipi-sidecar: it selects"),
    ("edge", lambda one: change(one["NetworkPolicy"]["spec"]["ingress"][0]["ports"][0], port="web"), "has no port web"),
    ("edge", lambda one: one["NetworkPolicy"]["spec"]["egress"][1].pop("to"), "that is everybody"),
    ("edge", lambda one: change(one["PodMonitor"]["spec"]["podMetricsEndpoints"][0], port="metrics"), "has no port metrics"),
]
CONFIGURATION = [
    ("edge", lambda one: one.replace("[server]", "[sever]"), "sever"),
    ("edge", lambda one: one.replace("/api-key", "/apikey"), "api_key_file"),
    ("edge", lambda one: one.replace("https://", "http://"), "is plain http"),
    ("edge", lambda one: one.replace('token_file = "/run/secrets/dressipi-sidecar/admin-token"', ""), "there is no token"),
    ("edge", lambda one: change(one.sidecar, args=["serve", "--config", "/etc/x"]), "no mounted file is the configuration"),
    ("edge", lambda one: change(one.pod.spec, terminationGracePeriodSeconds=26), "5 s + 2.0 s + 20.0 s are needed"),
    ("native", lambda one: change(one.pod.spec, terminationGracePeriodSeconds=31), "10 s + 2.0 s + 20.0 s are needed"),
    ("native", lambda one: one.pod.spec["containers"][0].pop("lifecycle"), "nothing waits"),
    ("classic", lambda one: one.pod.spec["containers"][-1].pop("lifecycle"),
     "shop may end while the sidecar still takes requests"),
    ("edge", lambda one: one.replace(":9901", ":9902"), "the port admin is 9901"),
    ("edge", lambda one: one.replace("0.0.0.0:8080", "0.0.0.0:8081"), "the port http is 8080"),
    ("edge", lambda one: change(one.sidecar["readinessProbe"]["httpGet"], path="/livez"), "readinessProbe does not ask /readyz"),
    ("redb", lambda one: change(one["StatefulSet"]["spec"], replicas=2), "for one replica"),
    ("redb", lambda one: one.replace("/var/lib/dressipi-sidecar/", "/var/lib/"), "is not on a volume that lasts"),
    ("edge", lambda one: one.remove("NetworkPolicy/dressipi-sidecar-to-redis"), "lets it reach Redis on port 6379"),
    ("edge", lambda one: one["NetworkPolicy"]["spec"]["egress"].pop(1), "lets it reach Dressipi on port 443"),
    ("edge", lambda one: one.replace("shop:3000", "127.0.0.1:3000"), "reach port 3000, which it does not need"),
    ("edge", lambda one: change(one.sidecar, name="other"), "0 workloads have a sidecar"),
]


class Rules(unittest.TestCase):
    """Each change is one that is found, and nothing is found without one."""

    rendered, secrets, binary = {}, [], ""

    def assert_found(self, shape, mutate, expected):
        one = Rendered(self.rendered[shape])
        mutate(one)
        found = rules.problems(one.documents, self.secrets, self.binary)
        with self.subTest(shape=shape, expected=expected):
            self.assertTrue(any(expected in problem for problem in found), f"found was {found}")

    def test_pod_security_is_judged_in_every_kind_of_container(self):
        for shape in ("edge", "native"):
            for mutate, expected in POD_SECURITY:
                one = Rendered(self.rendered[shape])
                mutate(one)
                found = [*rules.pod_security.problems(one.pod), *rules.pod_security.hardened(one.pod)]
                with self.subTest(shape=shape, expected=expected):
                    self.assertTrue(any(expected in problem for problem in found), f"found was {found}")

    def test_schemas_are_strict(self):
        for case in SCHEMAS:
            self.assert_found(*case)

    def test_what_names_nothing_is_found(self):
        for case in REFERENCES:
            self.assert_found(*case)

    def test_the_configuration_fits_its_pod(self):
        for case in CONFIGURATION:
            self.assert_found(*case)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kubectl", required=True)
    parser.add_argument("--binary", required=True)
    options = parser.parse_args()
    Rules.binary = options.binary
    Rules.secrets = check.render(options.kubectl, "secrets")
    Rules.rendered = {shape: check.render(options.kubectl, f"overlays/{overlay}") for shape, overlay in POD.items()}
    result = unittest.TextTestRunner(stream=sys.stdout).run(unittest.defaultTestLoader.loadTestsFromTestCase(Rules))
    sys.exit(0 if result.wasSuccessful() else 1)


if __name__ == "__main__":
    main()
