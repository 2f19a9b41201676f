"""Objects against the schemas of several versions of Kubernetes and of the Prometheus operator, unknown fields refused."""

from functools import lru_cache

import kubernetes_validate
from cloudcoil.models.prometheus_operator import v1 as prometheus_operator
from kubernetes_validate import utils

# The oldest that is supported (preStop's `sleep` is on from there), one in between, the newest.
VERSIONS = ("1.30.0", "1.34.0", "1.37.0")
CUSTOM = {"PodMonitor": prometheus_operator.PodMonitor, "ServiceMonitor": prometheus_operator.ServiceMonitor}

# The package reads the same megabyte for each object anew.
utils.schema_contents = lru_cache(maxsize=None)(utils.schema_contents)


def problems(documents):
    for document in documents:
        if document["apiVersion"] == "monitoring.coreos.com/v1":
            yield from _custom(document)
        else:
            yield from _builtin(document)


def _builtin(document):
    what = f"{document['kind']}/{document['metadata']['name']}"
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            path = ".".join(map(str, error.path))
            yield f"{what} in Kubernetes {version}: {path}: {error.message}"
        except utils.SchemaNotFoundError as error:
            yield f"{what}: {error.message}"


def _custom(document):
    what = f"{document['kind']}/{document['metadata']['name']}"
    try:
        known = CUSTOM[document["kind"]].model_validate(document)
    except ValueError as error:
        yield f"{what}: {error}"
        return
    # The models drop what they do not know: what comes back must be what went in.
    if known.model_dump(mode="json", by_alias=True, exclude_none=True) != document:
        yield f"{what}: it has fields that {document['apiVersion']} does not know"
