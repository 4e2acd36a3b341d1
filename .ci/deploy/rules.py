"""Prints what promtool can check: the alerts as Prometheus reads them, and the dashboard's queries as rules."""

import json
from pathlib import Path

import yaml

dashboards = Path("deploy/dashboards")
groups = yaml.safe_load((dashboards / "alerts.yaml").read_text())["spec"]["groups"]
panels = json.loads((dashboards / "headwater.json").read_text())["panels"]
queries = {target["expr"].replace("$__rate_interval", "1m") for panel in panels for target in panel.get("targets", [])}
rules = [{"record": f"dashboard:query{number}", "expr": query} for number, query in enumerate(sorted(queries))]
print(yaml.safe_dump({"groups": groups + [{"name": "dashboard", "rules": rules}]}))
