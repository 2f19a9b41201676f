"""Renders each overlay and judges it: `check.py --kubectl FILE --binary FILE`."""

import argparse
import sys
from pathlib import Path

import rules
from manifests import parse, run

HERE = Path(__file__).parent


def render(kubectl, folder):
    return parse(run(kubectl, "kustomize", HERE / folder))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kubectl", required=True)
    parser.add_argument("--binary", required=True)
    options = parser.parse_args()
    secrets = render(options.kubectl, "secrets")
    failed = False
    for folder in ["base", *sorted(f"overlays/{overlay.name}" for overlay in (HERE / "overlays").iterdir())]:
        documents = render(options.kubectl, folder)
        found = rules.problems(documents, secrets, options.binary)
        print(f"{folder}: {len(documents)} objects, {len(found)} problems")
        for problem in found:
            print(f"  {problem}")
        failed = failed or bool(found)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
