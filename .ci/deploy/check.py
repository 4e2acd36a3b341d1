"""Checks what is under deploy/ without a cluster: check.py <folder of rendered manifests> <folder of programs> <out>.

Writes to <out> what has to be asked of services that run: `<program> <path>` for each probe, and `metric <name>`."""

import re
import sys
from pathlib import Path

import compose
import image
import links
import pods
import schema
import yaml
from findings import end, wrong
from programs import Programs


def main(rendered, folder, out):
    programs = Programs(folder, "deploy/edge/fill.sh")
    paths, metrics = set(), set()
    for file in sorted(Path(rendered).glob("*.yaml")):
        manifests = [it for it in yaml.safe_load_all(file.read_text()) if it]
        configuration = {it["metadata"]["name"]: it["data"] for it in manifests if it["kind"] == "ConfigMap"}
        for manifest in manifests:
            where = f"{file.stem} {manifest['kind']} {manifest['metadata']['name']}"
            schema.check(where, manifest)
            if manifest["kind"] != "Namespace" and manifest["metadata"].get("namespace") != "headwater":
                wrong(where, "is not in the namespace headwater")
            if manifest["kind"] == "Secret":
                placeholders(where, manifest)
            if pod := links.pod_of(manifest):
                pods.check(where, pod, configuration, programs, paths)
            if manifest["kind"] == "ScaledObject":
                metrics |= set(re.findall(r"headwater_\w+", yaml.safe_dump(manifest["spec"]["triggers"])))
            if manifest["kind"] == "PodMonitor":
                paths |= {("command-service", it["path"]) for it in manifest["spec"]["podMetricsEndpoints"]}
        if file.stem not in ("migrate", "postgres", "namespace", "secrets"):
            links.check(file.stem, manifests)
    nats("deploy/kubernetes/nats/values.yaml", "nats/server.conf")
    compose.check("deploy/compose.yaml", programs)
    image.check(folder)
    lines = sorted(f"{program} {path}" for program, path in paths) + sorted(f"metric {name}" for name in metrics)
    Path(out).write_text("\n".join(lines) + "\n")
    end()


def placeholders(where, secret):
    """The example of secrets has none."""
    for key, value in (secret.get("data", {}) | secret.get("stringData", {})).items():
        if re.sub(r"[A-Z]+|smtps://|:|@|mail\.example\.org", "", value):
            wrong(where, f"{key} may be a real secret; write USER and PASSWORD")


def nats(values, server):
    """The chart's values say what the repository's own configuration of the server says."""
    config = yaml.safe_load(Path(values).read_text())["config"]
    ours = dict(re.findall(r"^\s*(max_payload|sync_interval): (\S+)$", Path(server).read_text(), re.MULTILINE))
    theirs = {"max_payload": config["merge"]["max_payload"].strip("<> "), **config["jetstream"]["merge"]}
    if ours != theirs:
        wrong(values, f"says {theirs}, and {server} {ours}")


main(*sys.argv[1:])
