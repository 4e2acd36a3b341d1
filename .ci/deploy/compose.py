"""deploy/compose.yaml: by the schema of Compose, and by what its parts name."""

import re
from pathlib import Path

import compose_spec
import yaml
from findings import wrong
from programs import CREDENTIALS_IN_URL, SECRET, program_of

VARIABLE = re.compile(r"\$\{([A-Z_]+)(?::-([^}]*)|:\?[^}]*)?\}")
# What the images of others read.
OTHERS = {"nats": "NATS_", "postgres": "POSTGRES_"}


def check(path, programs):
    text = yaml.safe_load(Path(path).read_text())
    filled = fill(text)
    try:
        compose_spec.PyCompose.from_yaml(yaml.safe_dump(filled, sort_keys=False)).validate()
    except ValueError as error:
        wrong(path, error)
        return
    for name, service in text["services"].items():
        here = f"{path} {name}"
        own_settings(here, name, service, programs)
        links(here, Path(path).parent, service, text)
        for command in service.get("command", []) if program_of(service["image"]) not in (None, "edge") else []:
            if command not in programs.subcommands(program_of(service["image"])):
                wrong(here, f"{service['image']} has no command {command}")
        if "ports" in service and name != "edge":
            wrong(here, "is reached from outside")


def links(where, folder, service, whole):
    """What a service names is there."""
    for other, how in service.get("depends_on", {}).items():
        if other not in whole["services"]:
            wrong(where, f"depends on {other}, which is not there")
        elif how["condition"] == "service_healthy" and "healthcheck" not in whole["services"][other]:
            wrong(where, f"waits for {other} to be healthy, which has no check")
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        if not ((folder / source).exists() if source.startswith(".") else source in whole["volumes"]):
            wrong(where, f"there is no {source}")
    if "build" in service:
        build = service["build"]
        if f"AS {build['target']}\n" not in (folder / build["context"] / build["dockerfile"]).read_text():
            wrong(where, f"the Containerfile has no target {build['target']}")


def own_settings(where, name, service, programs):
    program = program_of(service["image"])
    for variable, value in service.get("environment", {}).items():
        if program and variable not in programs.settings(program):
            wrong(where, f"{variable} is no setting of {program}")
        if not program and not variable.startswith(OTHERS[name]):
            wrong(where, f"{variable} is no setting of {name}")
        plain = VARIABLE.sub("", str(value)).strip()
        if CREDENTIALS_IN_URL.search(VARIABLE.sub("$(", str(value))) or (SECRET.fullmatch(variable) and plain == str(value)):
            wrong(where, f"{variable} is a secret, and its value stands in the file")


def fill(node):
    if isinstance(node, dict):
        return {key: fill(value) for key, value in node.items()}
    if isinstance(node, list):
        return [fill(value) for value in node]
    return VARIABLE.sub(lambda it: it[2] or "x", node) if isinstance(node, str) else node
