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
        for command in service.get("command", []) if program_of(service["image"]) not in (None, "edge") else []:
            if command not in programs.subcommands(program_of(service["image"])):
                wrong(here, f"{service['image']} has no command {command}")
        for other, how in service.get("depends_on", {}).items():
            if other not in text["services"]:
                wrong(here, f"depends on {other}, which is not there")
            elif how["condition"] == "service_healthy" and "healthcheck" not in text["services"][other]:
                wrong(here, f"waits for {other} to be healthy, which has no check")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                if not (Path(path).parent / source).exists():
                    wrong(here, f"there is no {source}")
            elif source not in text["volumes"]:
                wrong(here, f"there is no volume {source}")
        if "ports" in service and name != "edge":
            wrong(here, "is reached from outside")
        if "build" in service:
            file = (Path(path).parent / service["build"]["context"] / service["build"]["dockerfile"]).read_text()
            if f"AS {service['build']['target']}\n" not in file:
                wrong(here, f"the Containerfile has no target {service['build']['target']}")


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
