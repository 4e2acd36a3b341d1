"""Each manifest has only fields that its kind has: by Kubernetes' own schemas, and for custom resources by known.yaml."""

from pathlib import Path

import kubernetes_validate
import yaml
from findings import wrong

KUBERNETES = "1.37"
KNOWN = yaml.safe_load(Path(__file__).with_name("known.yaml").read_text())
TYPES = {"bool": bool, "int": int, "str": str}


def check(where, manifest):
    kind = f"{manifest['apiVersion']} {manifest['kind']}"
    if kind in KNOWN:
        by_hand(f"{where} spec", manifest["spec"], KNOWN[kind])
        return
    try:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        wrong(where, f"{'.'.join(str(step) for step in error.path)}: {error.message}")
    except kubernetes_validate.SchemaNotFoundError:
        wrong(where, f"Kubernetes {KUBERNETES} has no {kind}, and known.yaml has none either")


def by_hand(where, value, known):
    if isinstance(known, str):
        if type(value) is not TYPES[known]:
            wrong(where, f"{value!r} is no {known}")
    elif isinstance(known, list):
        for item in value if isinstance(value, list) else wrong(where, "is no list") or []:
            by_hand(where, item, known[0])
    elif not isinstance(value, dict):
        wrong(where, "has no fields")
    else:
        for field, inner in value.items():
            if field in known:
                by_hand(f"{where}.{field}", inner, known[field])
            else:
                wrong(where, f"unknown field {field}; if the operator knows it, add it to .ci/deploy/known.yaml")
