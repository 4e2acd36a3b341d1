"""The images can be built: what cargo needs goes to the builder, and nothing is copied that cargo does not make."""

import re
from pathlib import Path

import tomllib
from findings import wrong
from programs import SERVICES

CONTAINERFILE = Path("deploy/container/Containerfile")
# Read where clippy is the compiler, which it is in CI and not where images are built.
LINTS = Path("clippy.toml")


def check(programs):
    ignore = Path(f"{CONTAINERFILE}.dockerignore")
    kept = [line[1:] for line in ignore.read_text().splitlines() if line.startswith("!")]
    workspace = tomllib.loads(Path("Cargo.toml").read_text())["workspace"]
    needed = {Path("Cargo.toml"), Path("Cargo.lock"), Path("deploy/container/rootfs.sh")}
    needed |= {Path(member, "Cargo.toml") for member in workspace["members"]}
    for program in SERVICES:
        needed |= sources(Path(programs).resolve(), program)
    for path in sorted(needed - {LINTS}):
        if not any(path.is_relative_to(prefix) for prefix in kept):
            wrong(ignore, f"{path} does not go to the builder, and cargo needs it")
    for prefix in kept:
        if not Path(prefix).exists():
            wrong(ignore, f"there is no {prefix}")
    packages = set(re.findall(r"--package (\S+)", CONTAINERFILE.read_text()))
    targets = set(re.findall(r"/images/([a-z-]+) /", CONTAINERFILE.read_text()))
    if packages != targets or not targets >= set(SERVICES):
        wrong(CONTAINERFILE, f"builds {sorted(packages)}, and has images of {sorted(targets)}")


def sources(programs, program):
    """What cargo noted down that the program was made of, as far as it is ours."""
    root = programs.parent.parent
    _, _, files = (programs / f"{program}.d").read_text().partition(": ")
    paths = (Path(file).resolve() for file in files.split())
    return {path.relative_to(root) for path in paths if path.is_relative_to(root) and root / "target" not in path.parents}
