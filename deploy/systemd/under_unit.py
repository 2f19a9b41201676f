"""Starts the sidecar as the unit would, under its system-call filter and without new privileges, and takes systemd's side of sd_notify:
it gets ready, reloads at SIGHUP, and ends with 0 within TimeoutStopSec. under_unit.py BINARY PLACE UNIT
"""

import errno
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import seccomp

PATIENCE_S = 30


def directives(unit, key):
    lines = (line.partition("=") for line in unit.read_text().splitlines())
    return [value.strip() for name, _, value in lines if name == key]


def calls_of(group):
    """The system calls of a group, with those of the groups within."""
    listed = subprocess.run(["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True).stdout
    calls = set()
    for line in listed.splitlines()[1:]:
        word = line.strip()
        if word.startswith("@"):
            calls |= calls_of(word)
        elif word and not word.startswith("#"):
            calls.add(word)
    return calls


def allowed(unit):
    calls = set()
    for value in directives(unit, "SystemCallFilter"):
        groups = value.lstrip("~").split()
        listed = set().union(*(calls_of(group) for group in groups))
        calls = calls - listed if value.startswith("~") else calls | listed
    # What systemd lets any service do that has a filter.
    return calls | {"execve", "exit", "exit_group", "getrlimit", "rt_sigreturn", "sigreturn", "brk", "mmap", "munmap", "futex"}


def confine(calls):
    rules = seccomp.SyscallFilter(seccomp.ERRNO(errno.EPERM))
    for call in calls:
        try:
            rules.add_rule(seccomp.ALLOW, call)
        except (RuntimeError, ValueError):
            pass  # Of another architecture.
    return rules.load


def heard(mailbox, wanted):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        mailbox.settimeout(max(0.01, deadline - time.monotonic()))
        if wanted in mailbox.recv(4096).decode().splitlines():
            return
    raise SystemExit(f"error: systemd was never told {wanted}")


def metric(name):
    with urllib.request.urlopen("http://127.0.0.1:9901/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def main():
    binary, place, unit = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    mailbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    mailbox.bind(str(place / "notify"))
    load = confine(allowed(unit))
    process = subprocess.Popen(
        [binary, "serve", "--config", str(place / "sidecar.toml")],
        env=os.environ | {"NOTIFY_SOCKET": str(place / "notify")},
        preexec_fn=load,
    )
    try:
        heard(mailbox, "READY=1")
        print("the sidecar is ready under the unit's system-call filter")
        reloads = 'dressipi_sidecar_config_reloads_total{result="ok"}'
        before = metric(reloads)
        with (place / "sidecar.toml").open("a") as config:
            config.write('\n[log]\nlevel = "warn"\n')
        process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + PATIENCE_S
        while metric(reloads) == before:
            if time.monotonic() > deadline:
                raise SystemExit("error: nothing was reloaded")
            time.sleep(0.05)
        print("it reloads")
        process.terminate()
        heard(mailbox, "STOPPING=1")
        seconds = int(directives(unit, "TimeoutStopSec")[0])
        code = process.wait(timeout=seconds)
        if code:
            raise SystemExit(f"error: it ended with {code}")
        print("it drains and ends with 0")
    finally:
        if process.poll() is None:
            process.kill()


if __name__ == "__main__":
    main()
