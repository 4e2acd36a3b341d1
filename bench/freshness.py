#!/usr/bin/env python3
"""How soon a command's effect is visible: register an account, then read it with Min-Position at once.

Needs a running stack and nothing but Python: `python3 bench/freshness.py [rounds] [data folder]`.
Prints milliseconds: of the command, of the read that waits for it, and, to compare, of the same read again,
which has nothing to wait for. One client, one connection to each service, on the machine of the services.
"""

import http.client
import json
import sys
import time
import uuid
from urllib.parse import urlsplit

rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
folder = sys.argv[2] if len(sys.argv) > 2 else ".headwater"
endpoints = json.load(open(f"{folder}/endpoints.json"))


def connect(url):
    """The connection, and what every path on it begins with."""
    return http.client.HTTPConnection(urlsplit(url).netloc, timeout=30), urlsplit(url).path


commands, queries = connect(endpoints["command"]), connect(endpoints["query"])


def send(service, method, path, body=None, headers={}):
    """The answer and how many milliseconds it took; anything but success ends the run."""
    start = time.perf_counter()
    connection, prefix = service
    connection.request(method, prefix + path, body, headers)
    answer = connection.getresponse()
    text = answer.read()
    took = (time.perf_counter() - start) * 1000
    if answer.status >= 300:
        sys.exit(f"{method} {path}: {answer.status} {text.decode()}")
    return answer, text, took


took = {"command": [], "read that waits": [], "read again": []}
for _ in range(rounds):
    account = uuid.uuid4()
    body = json.dumps({"email": f"{account}@example.org", "username": account.hex})
    answer, _, ms = send(commands, "POST", f"/accounts/{account}/register", body, {"Content-Type": "application/json"})
    took["command"].append(ms)
    position = {"Min-Position": answer.getheader("Log-Position")}
    for name in ["read that waits", "read again"]:
        path = f"/accounts/{account}?fields=email,username"
        _, text, ms = send(queries, "GET", path, headers=position)
        assert json.loads(text) == {"email": f"{account}@example.org", "username": account.hex}, text
        took[name].append(ms)

for name, values in took.items():
    values.sort()
    p50, p99 = (values[int(len(values) * share)] for share in (0.5, 0.99))
    print(f"{name:<16} p50 {p50:6.2f} ms   p99 {p99:6.2f} ms   max {values[-1]:6.2f} ms")
