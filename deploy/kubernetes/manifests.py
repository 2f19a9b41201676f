"""Kubernetes objects as dictionaries: reading them, and finding one's way in them."""

import subprocess
from dataclasses import dataclass

import yaml

SIDECAR = "dressipi-sidecar"


@dataclass
class Pod:
    """A pod, or the template of a workload's pods."""

    owner: dict
    labels: dict
    spec: dict

    @property
    def name(self):
        return name(self.owner)

    @property
    def containers(self):
        """All of them, init containers first, each with the path to it."""
        for kind in ("initContainers", "containers", "ephemeralContainers"):
            for container in self.spec.get(kind) or []:
                yield f"{kind}[{container.get('name')}]", container

    @property
    def sidecar(self):
        """The container of the sidecar, or None."""
        return next((container for _, container in self.containers if container["name"] == SIDECAR), None)


def run(*command):
    """What a command prints; it must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def parse(text):
    """The objects of a stream of YAML documents."""
    return [document for document in yaml.safe_load_all(text) if document]


def name(document):
    return f"{document['kind']}/{document['metadata']['name']}"


def of_kind(documents, *kinds):
    return [document for document in documents if document["kind"] in kinds]


def find(documents, kind, called):
    """The object of that kind and name, or None."""
    return next((one for one in of_kind(documents, kind) if one["metadata"]["name"] == called), None)


def pods(documents):
    """Every pod and pod template."""
    for document in documents:
        if document["kind"] == "Pod":
            yield Pod(document, document["metadata"].get("labels") or {}, document["spec"])
        elif template := (document.get("spec") or {}).get("template"):
            yield Pod(document, template["metadata"].get("labels") or {}, template["spec"])


def selects(selector, labels):
    """Whether a label selector with nothing but matchLabels selects these labels."""
    assert set(selector) <= {"matchLabels"}, f"cannot judge {selector}"
    return all(labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items())
