"""Checks the compose files, and runs what redis.yaml says as processes on loopback. check.py SCHEMA BINARY"""

import contextlib
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import jsonschema
import one_profile
import yaml

HERE = pathlib.Path(__file__).parent
PATIENCE_S = 30
# server.drain_delay and server.drain_timeout of the sidecar, by default.
DRAIN_S = 22


def fail(what):
    sys.exit(f"error: {what}")


# === form ===


def load(name):
    return yaml.safe_load((HERE / name).read_text())


def problem_of(schema, compose):
    """What is wrong with it by the schema of the compose specification."""
    problem = next(jsonschema.Draft7Validator(schema).iter_errors(compose), None)
    return problem and f"{problem.json_path}: {problem.message}"


def check_references(name, compose):
    defined = {kind: set(compose.get(kind) or {}) for kind in ("secrets", "volumes", "services")}
    used = set()
    for title, service in compose["services"].items():
        where = f"{name}: {title}"
        for secret in service.get("secrets", []):
            used.add(secret)
            if secret not in defined["secrets"]:
                fail(f"{where} uses the secret {secret}, which is not defined")
        for other, rule in (service.get("depends_on") or {}).items():
            if other not in defined["services"] or rule != {"condition": "service_healthy"}:
                fail(f"{where} depends on {other}, but not on its health")
            if "healthcheck" not in compose["services"][other]:
                fail(f"{where} waits for {other}, which has no health check")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                if not (HERE / source).is_dir():
                    fail(f"{where} mounts {source}, which is not there")
            elif source not in defined["volumes"]:
                fail(f"{where} mounts {source}, which is not defined")
        check_hardening(where, service)
    if unused := defined["secrets"] - used:
        fail(f"{name}: nobody uses {sorted(unused)}")


def check_hardening(where, service):
    wanted = {"read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"]}
    for key, value in wanted.items():
        if service.get(key) != value:
            fail(f"{where}: {key} is {service.get(key)}, not {value}")
    if str(service.get("user", "root")).split(":")[0] in ("0", "root"):
        fail(f"{where} runs as root")
    if "serve" in service["command"] and int(service["stop_grace_period"].rstrip("s")) < DRAIN_S:
        fail(f"{where} is killed before it has drained")
    for port in service.get("ports", []):
        if not port.startswith("127.0.0.1:"):
            fail(f"{where} opens {port} to everybody")


# === the services as processes ===


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


class Services:
    """What redis.yaml starts, with loopback in place of the containers' names."""

    def __init__(self, binary, compose, folder, secrets):
        self.binary, self.compose, self.folder, self.secrets = binary, compose, folder, secrets
        self.redis_port, self.dressipi, self.shop = free_ports(3)
        self.sidecars = [free_ports(3) for _ in range(2)]
        self.processes = {}

    def start(self, name, command, environment=None):
        log = open(self.folder / f"{name}.log", "ab")
        self.processes[name] = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def until(self, name, holds):
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            if self.processes[name].poll() is not None:
                fail(f"{name} has ended")
            if time.monotonic() > deadline:
                fail(f"{name} was not up within {PATIENCE_S} s")
            time.sleep(0.05)

    def stop(self, name):
        process = self.processes.pop(name)
        process.terminate()
        process.wait(timeout=PATIENCE_S)
        return process.returncode

    def start_redis(self):
        (self.folder / "data").mkdir(exist_ok=True)
        places = {"/run/secrets/redis-users": f"{self.secrets}/redis-users", "/data": f"{self.folder}/data"}
        words = [places.get(word, word) for word in self.compose["services"]["redis"]["command"]]
        self.start("redis", [*words, "--port", str(self.redis_port), "--bind", "127.0.0.1"])
        self.until("redis", self.redis_answers)

    def redis_answers(self):
        asked = subprocess.run(
            ["redis-cli", "-p", str(self.redis_port), "ping"], capture_output=True, text=True, check=False
        )
        return re.search("PONG|NOAUTH", asked.stdout + asked.stderr) is not None

    def start_shop(self):
        places = {"0.0.0.0:8090": f"127.0.0.1:{self.dressipi}", "0.0.0.0:3000": f"127.0.0.1:{self.shop}"}
        command = [places.get(word, word) for word in self.compose["services"]["shop"]["command"]]
        self.start("shop", [self.binary, *command])
        self.until("shop", lambda: answers(f"http://127.0.0.1:{self.shop}/livez"))

    def start_sidecar(self, number):
        pages, named, admin = self.sidecars[number]
        environment = os.environ | {
            "SIDECAR__LISTENERS__0__ADDRESS": f"127.0.0.1:{pages}",
            "SIDECAR__LISTENERS__1__ADDRESS": f"127.0.0.1:{named}",
            "SIDECAR__LISTENERS__1__IDENTITY_PEERS": '["127.0.0.1"]',
            "SIDECAR__DRESSIPI__BASE_URL": f"http://127.0.0.1:{self.dressipi}",
            "SIDECAR__DRESSIPI__CLIENT_ID_FILE": str(HERE / "secrets/demo-client-id"),
            "SIDECAR__DRESSIPI__API_KEY_FILE": str(HERE / "secrets/demo-api-key"),
            "SIDECAR__SESSION__KEYS_FILE": f"{self.secrets}/sidecar-keys",
            "SIDECAR__SESSION__REDIS__URL": f"redis://127.0.0.1:{self.redis_port}",
            "SIDECAR__SESSION__REDIS__PASSWORD_FILE": f"{self.secrets}/redis-password",
            "SIDECAR__UPSTREAMS__0__ADDRESS": f"127.0.0.1:{self.shop}",
            "SIDECAR__ADMIN__ADDRESS": f"127.0.0.1:{admin}",
            "SIDECAR__SERVER__DRAIN_DELAY": "0s",
        }
        config = HERE / "config-redis/sidecar.toml"
        name = f"sidecar-{number + 1}"
        self.start(name, [self.binary, "serve", "--config", str(config)], environment)
        self.until(name, lambda: answers(f"http://127.0.0.1:{admin}/readyz"))

    def named(self):
        return [f"http://127.0.0.1:{ports[1]}" for ports in self.sidecars]

    def profiles(self):
        return one_profile.ledger(f"http://127.0.0.1:{self.dressipi}")


def run_services(binary, compose):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        secrets = folder / "compose/secrets/made"
        secrets.parent.mkdir(parents=True)
        script = folder / "compose/make-secrets"
        script.write_text((HERE / "make-secrets").read_text())
        subprocess.run(["bash", str(script)], check=True)
        services = Services(binary, compose, folder, secrets)
        try:
            services.start_redis()
            services.start_shop()
            for number in (0, 1):
                services.start_sidecar(number)
            before = one_profile.one(one_profile.named(services.named(), "ada"))
            if services.profiles() != 1:
                fail(f"{services.profiles()} profiles were made for one visitor")
            # Everything that remembers is started anew, one after the other.
            for number in (0, 1):
                if code := services.stop(f"sidecar-{number + 1}"):
                    fail(f"sidecar-{number + 1} ended with {code}")
                services.start_sidecar(number)
            services.stop("redis")
            services.start_redis()
            time.sleep(1)
            after = one_profile.one(one_profile.named(services.named(), "ada"))
            if (after, services.profiles()) != (before, 1):
                fail("a restart cost a profile")
            pages = f"http://127.0.0.1:{services.sidecars[0][0]}"
            one_profile.one(one_profile.browser(pages))
            if services.profiles() != 2:
                fail("a browser's first page made more than one profile")
        except BaseException:
            for log in folder.glob("*.log"):
                print(f"--- {log.name}\n{log.read_text()[-3000:]}", file=sys.stderr)
            raise
        finally:
            for name in list(services.processes):
                services.stop(name)


def main():
    schema, binary = json.loads(pathlib.Path(sys.argv[1]).read_text()), sys.argv[2]
    # What the schema forbids is found.
    if problem_of(schema, {"services": {"shop": {"image": "shop", "health-check": {}}}}) is None:
        fail("the schema lets an unknown key pass")
    for name in ("compose.yaml", "redis.yaml"):
        compose = load(name)
        if problem := problem_of(schema, compose):
            fail(f"{name}: {problem}")
        check_references(name, compose)
        print(f"{name}: well formed, and all that it names is there")
    with tempfile.TemporaryDirectory() as folder:
        check_configurations(binary, pathlib.Path(folder))
    run_services(binary, load("redis.yaml"))
    print("redis.yaml, as processes: one visitor, one profile, at both sidecars and after a restart of each and of Redis")


def check_configurations(binary, folder):
    """`check`, with the secrets where they lie outside of containers."""
    keys = subprocess.run([binary, "keygen"], capture_output=True, text=True, check=True).stdout
    for name, text in (("sidecar-keys", keys), ("redis-password", "secret")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    places = {
        "/run/secrets/dressipi-": f"{HERE.resolve()}/secrets/demo-",
        "/run/secrets/": f"{folder}/",
        "/var/lib/dressipi-sidecar/": f"{folder}/",
    }
    for config in sorted(HERE.glob("config*/sidecar.toml")):
        text = config.read_text()
        for inside, outside in places.items():
            text = text.replace(inside, outside)
        copy = folder / "sidecar.toml"
        copy.write_text(text)
        checked = subprocess.run([binary, "check", "--config", str(copy)], capture_output=True, text=True, check=False)
        if checked.returncode:
            fail(f"{config}: {checked.stdout}{checked.stderr}")
        print(f"{config.relative_to(HERE)}: good")


if __name__ == "__main__":
    main()
