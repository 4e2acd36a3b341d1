"""Prints what containers run: `nats` or the edge's `health` in Compose, the edge's `start` or `leave` of rendered
manifests. `chart` writes into a folder what the chart of NATS would give its servers of our users."""

import re
import subprocess
import sys
from pathlib import Path

import yaml


def compose(service):
    return yaml.safe_load(Path("deploy/compose.yaml").read_text())["services"][service]


def edge(rendered):
    manifests = yaml.safe_load_all(Path(rendered).read_text())
    (edge,) = (it for it in manifests if it["kind"] == "Deployment" and it["metadata"]["name"] == "edge")
    (container,) = edge["spec"]["template"]["spec"]["containers"]
    return container


def chart(folder):
    """The chart writes `merge` into the server's configuration, `00$include` as `include`."""
    values = yaml.safe_load(Path("deploy/kubernetes/nats/values.yaml").read_text())
    made = subprocess.run(["sh", "deploy/kubernetes/nats/users.sh", "headwater"], capture_output=True, text=True, check=True)
    files = yaml.safe_load(made.stdout)["configMap"]["merge"]["data"]
    named = set(re.findall(r"\$(NATS_PASSWORD_\w+)", files["accounts.conf"]))
    if missing := named - values["container"]["env"].keys():
        sys.exit(f"deploy: the chart's servers do not know {missing}")
    for name, text in files.items():
        Path(folder, name).write_text(text)
    lines = ["jetstream: enabled", f"include {values['config']['merge']['00$include']}"]
    Path(folder, "nats.conf").write_text("\n".join(lines) + "\n")


match sys.argv[1:]:
    case ["health"]:
        print(compose("edge")["healthcheck"]["test"][-1])
    case ["nats"]:
        print(compose("nats")["entrypoint"][-1])
    case ["chart", folder]:
        chart(folder)
    case ["start", rendered]:
        print(" ".join(edge(rendered)["command"][1:]))
    case ["leave", rendered]:
        print(edge(rendered)["lifecycle"]["preStop"]["exec"]["command"][-1])
