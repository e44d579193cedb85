#!/usr/bin/env python3
"""Tests at one level of vectors, or on an emulated processor.

  cpu_levels.py level scalar|avx2|avx512   titans-cpu and titans-core with TITANMEM_SIMD
  cpu_levels.py emulated CPU               under qemu-x86_64: the unit tests of titans-cpu, the
                                           equal-bits test, and without AVX the example `remember`

The programs are those of `cargo test --workspace`, so nothing is compiled for it that the whole
suite did not need. Ends with 3 where the level or the emulator cannot be had here, and says why.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Loops over 10^10 numbers: up to ten minutes under emulation.
TOO_LONG_UNDER_EMULATION = ["article"]


def programs():
    """(package, kind, name) of each test and example: where it is."""
    built = subprocess.run(
        ["cargo", "test", "--workspace", "--no-run", "--message-format=json"],
        cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
    found = {}
    for line in built.stdout.splitlines():
        artifact = json.loads(line)
        if artifact["reason"] == "compiler-artifact" and artifact.get("executable"):
            target = artifact["target"]
            package = Path(artifact["manifest_path"]).parent.name
            found[package, target["kind"][0], target["name"]] = artifact["executable"]
    return found


def run(what, command, cwd, environment=None):
    started = time.monotonic()
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **(environment or {})},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    took = time.monotonic() - started
    if done.returncode != 0:
        print(done.stdout)
        sys.exit(f"FAILED {what} after {took:.0f} s, status {done.returncode}")
    results = [line for line in done.stdout.splitlines() if line.startswith("test result")]
    print(f"{took:6.1f} s  {what}: {results[-1] if results else 'ok'}", flush=True)


def at_level(level):
    found = programs()
    environment = {"TITANMEM_SIMD": level}
    units = found["titans-cpu", "lib", "titans_cpu"]
    probe = subprocess.run([units, "this_process_has_a_level"], capture_output=True, text=True,
                           env={**os.environ, **environment})
    if probe.returncode != 0:
        print(f"this machine has no {level}")
        return 3
    for (package, kind, name), program in sorted(found.items()):
        if package in ("titans-cpu", "titans-core") and kind in ("lib", "test"):
            run(f"{package} {name}", [program, "--quiet"], ROOT / "crates" / package, environment)
    return 0


def emulated(cpu):
    emulator = shutil.which("qemu-x86_64")
    if emulator is None:
        print("there is no qemu-x86_64 (Debian: qemu-user)")
        return 3
    found = programs()
    command = [emulator, "-cpu", cpu]
    core = ROOT / "crates" / "titans-core"
    units = found["titans-cpu", "lib", "titans_cpu"]
    run(f"titans-cpu on {cpu}", [*command, units, "--quiet"], ROOT)
    skipped = [f"--skip={test}" for test in TOO_LONG_UNDER_EMULATION]
    bits = found["titans-core", "test", "equal_bits_on_every_cpu"]
    run(f"equal bits on {cpu}", [*command, bits, "--quiet", *skipped], core)
    if cpu == "Nehalem":
        remember = next(program for (_, kind, name), program in found.items()
                        if kind == "example" and name == "remember")
        run(f"the example remember on {cpu}", [*command, remember], ROOT)
    return 0


def main():
    match sys.argv[1:]:
        case ["level", level]:
            return at_level(level)
        case ["emulated", cpu]:
            return emulated(cpu)
    print(__doc__)
    return 2


if __name__ == "__main__":
    sys.exit(main())
