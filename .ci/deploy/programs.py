"""What our programs know: settings by their `--help`, and those of the edge by its script."""

import re
import subprocess
from functools import cache
from pathlib import Path

SERVICES = ("command-service", "projector", "query-service", "task-worker")
# They are secrets, or have one inside.
SECRET = re.compile(r"DATABASE_URL|HEADWATER_STANDBY_URL|HEADWATER_MAIL|.*(PASSWORD|TOKEN|SECRET|_KEY|CREDENTIALS|CREDS|SEED)")
CREDENTIALS_IN_URL = re.compile(r"://[^/\s:@]*:(?!\$\()[^/\s@]+@")


class Programs:
    def __init__(self, folder, edge_script):
        self.folder = Path(folder)
        self.edge = set(re.findall(r"\bEDGE_[A-Z_]+", Path(edge_script).read_text()))

    @cache
    def settings(self, program):
        """The variables that a program reads."""
        if program == "edge":
            return self.edge
        help = subprocess.run([self.folder / program, "--help"], capture_output=True, text=True, check=True).stdout
        return set(re.findall(r"\[env: ([A-Z_]+)", help))

    @cache
    def subcommands(self, program):
        help = subprocess.run([self.folder / program, "--help"], capture_output=True, text=True, check=True).stdout
        _, _, commands = help.partition("Commands:\n")
        return set(re.findall(r"^  ([a-z-]+) ", commands.partition("\n\n")[0], re.MULTILINE))


def program_of(image):
    """`registry.example/headwater/projector:0.1.0` is the projector; an image of others is None."""
    name = image.split("/")[-1].split(":")[0]
    return {"envoy": "edge"}.get(name, name if name in SERVICES else None)
