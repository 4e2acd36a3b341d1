"""What refers to something refers to something that is there: selectors, ports, names in DNS, targets."""

import re
from urllib.parse import urlparse

from findings import wrong

# Pods that others make: the chart of NATS, and the operator of Postgres.
OTHERS = [{"app.kubernetes.io/name": "nats"}, {"cnpg.io/cluster": "postgres", "cnpg.io/instanceRole": "replica"}]
OTHERS_SERVICES = {"nats": {4222}}


def check(where, manifests):
    pods = [pod for manifest in manifests if (pod := pod_of(manifest))]
    # The job of the migrations is applied by itself.
    labels = [pod["metadata"]["labels"] for pod in pods] + OTHERS + [{"app.kubernetes.io/name": "migrate"}]
    deployments = {it["metadata"]["name"] for it in manifests if it["kind"] == "Deployment"}
    services = {it["metadata"]["name"]: it["spec"] for it in manifests if it["kind"] == "Service"}
    for manifest in manifests:
        here = f"{where} {manifest['kind']} {manifest['metadata']['name']}"
        spec = manifest.get("spec", {})
        if manifest["kind"] in ("HorizontalPodAutoscaler", "ScaledObject"):
            if spec["scaleTargetRef"]["name"] not in deployments:
                wrong(here, f"there is no Deployment {spec['scaleTargetRef']['name']}")
        for selector in selectors(manifest):
            if not any(selects(selector, label) for label in labels):
                wrong(here, f"no pod is selected by {selector}")
        if manifest["kind"] == "Service":
            ports(here, spec, pods)
        if manifest["kind"] == "ConfigMap":
            names_in_dns(here, manifest["data"], services)
    for pod in pods:
        for container in pod["spec"]["containers"]:
            environment = {it["name"]: it.get("value") for it in container.get("env", [])}
            names_in_dns(f"{where} {container['name']}", environment, services)


def pod_of(manifest):
    return manifest["spec"]["template"] if manifest["kind"] in ("Deployment", "Job", "StatefulSet") else None


def selectors(manifest):
    spec = manifest.get("spec", {})
    if manifest["kind"] == "Service":
        return [{"matchLabels": spec["selector"]}]
    found = [spec[name] for name in ("selector", "podSelector") if name in spec]
    peers = [peer for rule in spec.get("ingress", []) for peer in rule.get("from", [])]
    peers += [peer for rule in spec.get("egress", []) for peer in rule.get("to", [])]
    return found + [peer["podSelector"] for peer in peers if "podSelector" in peer]


def selects(selector, labels):
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(it["key"]) in it["values"] for it in selector.get("matchExpressions", [])
    )


def ports(where, spec, pods):
    for pod in pods:
        if spec["selector"].items() <= pod["metadata"]["labels"].items():
            containers = pod["spec"]["containers"]
            named = {it["name"]: it["containerPort"] for container in containers for it in container["ports"]}
            for port in spec["ports"]:
                if port["targetPort"] not in named:
                    wrong(where, f"its pods have no port {port['targetPort']}")
                elif spec.get("clusterIP") == "None" and port["port"] != named[port["targetPort"]]:
                    wrong(where, f"is headless, so its port must be the pods' {named[port['targetPort']]}")


def names_in_dns(where, values, services):
    """Hosts and ports in settings are services, and those of the edge have all instances."""
    addresses = values.get("EDGE_COMMANDS", "").split()
    addresses += [pair.partition("=")[2] for pair in values.get("EDGE_QUERIES", "").split()]
    for address in addresses:
        host, _, port = address.partition(":")
        service = services.get(host, {})
        if service.get("clusterIP") != "None" or not service.get("publishNotReadyAddresses"):
            wrong(where, f"{host} is no headless Service with all instances, ready or not")
        reached(where, host, int(port), services)
    for name in ("NATS_URL", "HEADWATER_QUERY_URL", "HEADWATER_STANDBY_URL"):
        if values.get(name):
            url = urlparse(re.sub(r"\$\([A-Z_]+\)", "x", values[name]))
            reached(where, url.hostname, url.port, services)


def reached(where, host, port, services):
    known = OTHERS_SERVICES | {name: {it["port"] for it in spec["ports"]} for name, spec in services.items()}
    if port not in known.get(host, ()):
        wrong(where, f"there is no Service {host} with the port {port}")
