"""Prints what the edge's container runs: `health` in Compose, `start` or `leave` of rendered manifests."""

import sys
from pathlib import Path

import yaml

if sys.argv[1] == "health":
    services = yaml.safe_load(Path("deploy/compose.yaml").read_text())["services"]
    print(services["edge"]["healthcheck"]["test"][-1])
else:
    manifests = yaml.safe_load_all(Path(sys.argv[2]).read_text())
    (edge,) = (it for it in manifests if it["kind"] == "Deployment" and it["metadata"]["name"] == "edge")
    (container,) = edge["spec"]["template"]["spec"]["containers"]
    if sys.argv[1] == "start":
        print(" ".join(container["command"][1:]))
    else:
        print(container["lifecycle"]["preStop"]["exec"]["command"][-1])
