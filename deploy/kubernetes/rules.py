"""Everything that must hold of what Kustomize and Helm render."""

import configuration
import pod_security
import references
import schemas
from manifests import pods


def problems(documents, outside, binary):
    """What is wrong with these objects, beside `outside`, which others make (Secrets)."""
    found = list(schemas.problems(documents))
    if found:
        return found  # what is not of its shape cannot be looked into
    found += references.problems(documents, outside)
    sidecars = 0
    for pod in pods(documents):
        found += pod_security.problems(pod)
        if pod.sidecar:
            sidecars += 1
            found += pod_security.hardened(pod)
            found += configuration.problems(pod, [*documents, *outside], binary)
    if sidecars != 1:
        found.append(f"{sidecars} workloads have a sidecar, not one")
    return found
