"""What the pods of the manifests run: settings, ports, probes, secrets, confinement, and time to leave."""

import re

from findings import wrong
from programs import CREDENTIALS_IN_URL, SECRET, program_of

# What a service takes after its drain (docs/operations.md).
FINISHING_SECONDS = 5
CONFINED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def check(where, pod, configuration, programs, paths):
    """`configuration` has the ConfigMaps by name; `paths` takes (program, path) of every probe."""
    spec = pod["spec"]
    confined(where, spec)
    for container in spec.get("initContainers", []) + spec["containers"]:
        here = f"{where} {container['name']}"
        program = program_of(container["image"])
        if ":" not in container["image"].split("/")[-1] or container["image"].endswith(":latest"):
            wrong(here, f"{container['image']} names no version")
        if any(container["securityContext"].get(field) != value for field, value in CONFINED.items()):
            wrong(here, f"securityContext is not {CONFINED}")
        if "memory" not in container["resources"].get("limits", {}):
            wrong(here, "has no limit of memory")
        if program is None:
            wrong(here, f"{container['image']} is none of our programs")
            continue
        environment = settings(here, container, configuration, programs.settings(program))
        known_arguments(here, container, program, programs)
        ports(here, container, program, environment, paths)
        time_to_leave(here, container, spec, environment)


def confined(where, spec):
    context = spec.get("securityContext", {})
    if not context.get("runAsNonRoot") or not context.get("runAsUser") or spec.get("automountServiceAccountToken") is not False:
        wrong(where, "runs as root, or has a token of the cluster")
    if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
        wrong(where, "has no seccomp profile")


def settings(where, container, configuration, known):
    """The container's variables by name; None for what a Secret gives."""
    found = {}
    for source in container.get("envFrom", []):
        name = source["configMapRef"]["name"]
        if name not in configuration:
            wrong(where, f"there is no ConfigMap {name}")
        found.update(configuration.get(name, {}))
    for variable in container.get("env", []):
        is_secret = "secretKeyRef" in variable.get("valueFrom", {})
        found[variable["name"]] = None if is_secret else variable.get("value")
    values = [value for value in found.values() if value]
    helping = {name for value in values for name in re.findall(r"\$\(([A-Z_]+)\)", value)}
    for name in helping - found.keys():
        wrong(where, f"$({name}) is used and not set")
    for name in found.keys() - known - helping:
        wrong(where, f"{name} is no setting of {container['image']}")
    for name, value in found.items():
        if value and (CREDENTIALS_IN_URL.search(value) or (SECRET.fullmatch(name) and "$(" not in value)):
            wrong(where, f"{name} is a secret, and its value stands in the manifest")
    return found


def known_arguments(where, container, program, programs):
    for argument in container.get("args", []):
        if argument not in programs.subcommands(program):
            wrong(where, f"{program} has no command {argument}")


def ports(where, container, program, environment, paths):
    named = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
    listen = environment.get("HEADWATER_LISTEN", "")
    if listen and listen != f"0.0.0.0:{named.get('http')}":
        wrong(where, f"listens at {listen}, and its port is {named.get('http')}")
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        asks = container.get(probe, {})
        port = asks.get("httpGet", asks.get("tcpSocket", {})).get("port", "http")
        if asks and port not in named:
            wrong(where, f"{probe} asks at {port}, which is none of its ports")
        if "httpGet" in asks:
            paths.add((program, asks["httpGet"]["path"]))
    if named and not {"livenessProbe", "readinessProbe"} <= container.keys():
        wrong(where, "is not probed")


def time_to_leave(where, container, spec, environment):
    if "ports" not in container:
        return
    needed = int(environment.get("HEADWATER_HTTP_DRAIN_SECONDS", 0)) + FINISHING_SECONDS
    before = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", [])
    needed += sum(int(seconds) for part in before for seconds in re.findall(r"^sleep (\d+)", part, re.MULTILINE))
    if spec.get("terminationGracePeriodSeconds", 30) < needed:
        wrong(where, f"terminationGracePeriodSeconds is less than the {needed} s that it takes to leave")
