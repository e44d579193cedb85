#!/usr/bin/env python3
"""Each published crate as the registry would get it: made, opened, and looked at.

  package.py             make the packages; they hold both licences, the page and no link
  package.py --compile   and compile each from its own package, as the registry's users do

The packages are left in the folder `package` of cargo's target folder.
"""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEEDED = ["Cargo.toml", "LICENSE-APACHE", "LICENSE-MIT", "README.md"]


def main():
    if sys.argv[1:] not in ([], ["--compile"]):
        print(__doc__)
        return 2
    told = subprocess.run(["cargo", "metadata", "--no-deps", "--format-version=1"],
                          cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
    workspace = json.loads(told.stdout)
    # `publish = false` is an empty list of registries there.
    published = [package for package in workspace["packages"] if package["publish"] != []]
    chosen = [word for package in published for word in ("-p", package["name"])]
    how = [] if sys.argv[1:] else ["--no-verify"]
    made = subprocess.run(["cargo", "package", "--quiet", "--allow-dirty", *how, *chosen], cwd=ROOT)
    if made.returncode != 0:
        return 1
    wrong = 0
    for package in published:
        name = f"{package['name']}-{package['version']}"
        path = Path(workspace["target_directory"], "package", f"{name}.crate")
        with tarfile.open(path) as archive:
            files = {member.name.removeprefix(f"{name}/"): member for member in archive}
        missing = [file for file in NEEDED if file not in files or files[file].size == 0]
        links = [file for file, member in files.items() if not member.isfile()]
        print(f"{name}: {len(files)} files, {path.stat().st_size / 1024:.0f} KiB")
        if missing or links:
            print(f"  lacks {missing}, has links or folders {links}")
            wrong += 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
