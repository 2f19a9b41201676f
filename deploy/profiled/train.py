#!/usr/bin/env python3
"""Has a sidecar do its daily work, so that the compiler can see what that is. train.py BINARY [--quick]

One simulator, one shop, and the sidecar before them: visitors who come, come back and browse, over HTTP/1.1, and over HTTP/2 and TLS
where there are curl and openssl; on redb, and on Redis where there is redis-server. Tokens live for seconds, so some are refreshed all
the time. What is not done here is compiled as what seldom happens: errors, reloads, the admin pages.

Fails where a visitor is not served: nothing is learnt of that.
"""

import collections
import contextlib
import http.client
import http.server
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-GB,en;q=0.9",
    "Accept-Encoding": "gzip, deflate, br",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
}
CLIENTS = 8
# Whatever takes longer hangs, in seconds.
PATIENCE = 60
# Of so many requests of a client one is a new visitor's, one a call to Dressipi, one has a body, one a large answer.
NEW, TO_DRESSIPI, WITH_BODY, LARGE = 25, 20, 30, 100


class Shop(http.server.BaseHTTPRequestHandler):
    """An app: a page of 2 KB, or one of 200."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.rfile.read(int(self.headers.get("content-length") or 0))
        body = b"x" * (200_000 if self.path.startswith("/large") else 2048)
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET


class ShopServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def free_port():
    with contextlib.closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_for(port):
    for _ in range(600):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        time.sleep(0.05)
    sys.exit(f"nothing listens on port {port}")


@contextlib.contextmanager
def running(words, port):
    """A process that listens, and ends in order: only then is the profile written."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    log = []
    reader = threading.Thread(target=lambda: log.extend(process.stderr), daemon=True)
    reader.start()
    try:
        wait_for(port)
        yield
    except BaseException:
        print("".join(log[-20:]), file=sys.stderr)
        raise
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        if code:
            sys.exit(f"{words[0]} ended with {code}:\n{''.join(log[-20:])}")


def configuration(folder, ports, shop, store, tls):
    """A sidecar's file as a shop has it, but for limits: all visitors come from one address here."""
    text = f"""
[[listeners]]
address = "127.0.0.1:{ports['http']}"
visitor = ["cookie"]
[admin]
address = "127.0.0.1:{ports['admin']}"
[server]
threads = 2
drain_delay = "0s"
[cookie]
name = "visitor"
secure = false
[creation]
per_client = "unlimited"
overall = "unlimited"
[dressipi]
base_url = "http://127.0.0.1:{ports['dressipi']}"
client_id = "demo"
api_key = "demo-api-key"
[limits]
requests_per_connection = 1000
[session]
{store}
[[routes]]
path = "/api/"
upstream = "dressipi"
[[routes]]
path = "/"
upstream = "shop"
[[upstreams]]
name = "shop"
address = "127.0.0.1:{shop}"
"""
    if tls:
        text += f"""
[[listeners]]
address = "127.0.0.1:{ports['https']}"
visitor = ["cookie"]
tls.cert_file = "{folder}/tls.crt"
tls.key_file = "{folder}/tls.key"
"""
    path = pathlib.Path(folder, "sidecar.toml")
    path.write_text(text)
    return str(path)


def browse(port, requests, seed, seen):
    """One connection, on which visitors come and come back. Counts the answers by status and by why there was no token."""
    chance, visitors = random.Random(seed), []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    for number in range(requests):
        headers, method, body, path = dict(BROWSER), "GET", None, f"/page/{number}?colour=red"
        if visitors and number % NEW:
            headers["Cookie"] = f"theme=dark; {chance.choice(visitors)}; basket=3"
        if number % TO_DRESSIPI == 3:
            path = f"/api/recommendations/{number}"
        elif number % WITH_BODY == 7:
            method, body = "POST", b'{"a":1}' * 30
        elif number % LARGE == 11:
            path = f"/large/{number}"
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        answer.read()
        told = answer.getheader("dressipi-sidecar") or ""
        seen[answer.status, told] += 1
        if cookie := answer.getheader("set-cookie"):
            visitors.append(cookie.split(";")[0])
    connection.close()


def browse_over_tls(folder, port, requests):
    """The same over HTTP/2 and TLS, by curl: one visitor, many streams."""
    jar, urls = pathlib.Path(folder, "jar"), pathlib.Path(folder, "urls")
    common = ["curl", "--silent", "--show-error", "--fail", "--insecure", "--http2", "--max-time", str(PATIENCE), "--cookie", jar]
    for name, value in BROWSER.items():
        common += ["--header", f"{name}: {value}"]
    address = f"https://127.0.0.1:{port}"
    jar.write_text("")
    subprocess.run([*common, "--cookie-jar", jar, f"{address}/"], check=True, stdout=subprocess.DEVNULL)
    urls.write_text("".join(f'url = "{address}/page/{number}"\n' for number in range(requests)))
    parallel = ["--parallel", "--parallel-max", "16", "--no-progress-meter", "--config", urls]
    subprocess.run([*common, *parallel], check=True, stdout=subprocess.DEVNULL)


def work(binary, folder, store, requests, tls):
    """One sidecar on one store."""
    shop = ShopServer(("127.0.0.1", 0), Shop)
    threading.Thread(target=shop.serve_forever, daemon=True).start()
    ports = {name: free_port() for name in ("http", "https", "admin", "dressipi")}
    simulator = [binary, "simulator", "--listen", f"127.0.0.1:{ports['dressipi']}", "--token-lifetime", "5"]
    config = configuration(folder, ports, shop.server_address[1], store, tls)
    with running(simulator, ports["dressipi"]), running([binary, "serve", "--config", config], ports["http"]):
        counts = [collections.Counter() for _ in range(CLIENTS)]
        threads = [
            threading.Thread(target=browse, args=(ports["http"], requests // CLIENTS, seed, seen)) for seed, seen in enumerate(counts)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seen = sum(counts, collections.Counter())
        served = sum(count for (status, told), count in seen.items() if status in (200, 404) and not told)
        if served < requests // CLIENTS * CLIENTS * 0.99:
            sys.exit(f"too few visitors were served with a token: {seen}")
        if tls:
            browse_over_tls(folder, ports["https"], requests // 10)
        # What monitoring asks.
        for path in ("/metrics", "/readyz") * 3:
            connection = http.client.HTTPConnection("127.0.0.1", ports["admin"], timeout=PATIENCE)
            connection.request("GET", path)
            connection.getresponse().read()
    shop.shutdown()
    return served


def main():
    # Whoever ends this ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    binary, *options = sys.argv[1:]
    requests = 1_600 if "--quick" in options else 24_000
    tls = bool(shutil.which("curl") and shutil.which("openssl"))
    with tempfile.TemporaryDirectory() as folder:
        if tls:
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                 "-subj", "/CN=localhost", "-keyout", f"{folder}/tls.key", "-out", f"{folder}/tls.crt"],
                check=True, stderr=subprocess.DEVNULL,
            )
        else:
            print("no HTTP/2 and TLS: curl or openssl is missing", file=sys.stderr)
        served = work(binary, folder, f'store = "redb"\npath = "{folder}/sessions.redb"', requests, tls)
        if redis := shutil.which("redis-server"):
            port, keys = free_port(), subprocess.run([binary, "keygen"], check=True, capture_output=True, text=True).stdout
            pathlib.Path(folder, "keys").write_text(keys)
            os.chmod(f"{folder}/keys", 0o600)
            server = [redis, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
            store = f'store = "redis"\nkeys_file = "{folder}/keys"\nredis.url = "redis://127.0.0.1:{port}"'
            with running(server, port):
                served += work(binary, folder, store, requests // 4, False)
        else:
            print("no Redis: redis-server is missing", file=sys.stderr)
    print(f"{served} requests of visitors were served")


main()
