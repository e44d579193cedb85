#!/usr/bin/env python3
"""Cuts the power of a real file system, many times, and opens what is left.

A program saves generations to ext4 on a disk whose every write and flush is recorded
(qemu-storage-daemon, blklogwrites). Then, for every moment between two writes, the disk is
rebuilt as it may have been: all writes up to there, and up to there with random ones of the
un-flushed writes missing. Each is mounted, and what opens must be the last acknowledged
generation or a newer one, whole, with nothing torn in sight.

Needs root, qemu-storage-daemon, /dev/fuse, loop devices and mkfs.ext4; prints SKIPPED and
exits with 0 where one is missing. `--broken no-file-sync` and `--broken no-folder-sync` run a
program with that flush removed; the check must then fail, which this script expects.

Usage: scripts/block_crash.py [--states N] [--seed N] [--broken KIND]
"""

import argparse
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
SECTOR = 512
DISK_BYTES = 32 << 20
FLUSH, FUA, DISCARD = 1, 2, 4


def skip(reason):
    print(f"SKIPPED: {reason}")
    sys.exit(0)


def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options)


def missing():
    if os.geteuid() != 0:
        return "not root"
    for tool in ("qemu-storage-daemon", "mkfs.ext4", "losetup", "mount"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    if not os.path.exists("/dev/fuse"):
        return "/dev/fuse is missing"
    if not os.path.exists("/dev/loop-control"):
        return "loop devices are missing"
    return None


def build():
    run("cargo", "build", "--release", "-p", "titans-store", "--example", "crash_child", cwd=ROOT)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return target.resolve() / "release/examples/crash_child"


def attach(path):
    """A loop device for a file. Ours are always free ones, found by the kernel."""
    return run("losetup", "-f", "--show", str(path)).stdout.strip()


class Mounted:
    """A file system mounted for the time of a `with`."""

    def __init__(self, device, point, *options):
        self.device, self.point, self.options = device, point, options

    def __enter__(self):
        run("mount", "-t", "ext4", *self.options, self.device, str(self.point))
        return self.point

    def __exit__(self, *_):
        run("umount", str(self.point))


def entries(log):
    """The recorded writes: (kind, first sector, sectors, offset of the data in the log)."""
    with open(log, "rb") as file:
        magic, version, count, sector = struct.unpack("<QQQL", file.read(28))
        if magic != 0x6A736677736872 or version != 1:
            sys.exit(f"not a log of writes: {magic:#x} version {version}")
        at, found = sector, []
        for _ in range(count):
            file.seek(at)
            first, sectors, kind, _ = struct.unpack("<QQQQ", file.read(32))
            at += sector
            found.append((kind, first, sectors, at))
            if not kind & DISCARD:
                at += sectors * sector
        return found, sector


def entry_count(log):
    with open(log, "rb") as file:
        file.seek(16)
        return struct.unpack("<Q", file.read(8))[0]


def record(folder, child, broken):
    """Runs the program on a recorded disk. Returns the empty disk and (entries, number) acks."""
    disk, log, export = folder / "disk", folder / "log", folder / "export.img"
    point = folder / "mnt"
    point.mkdir()
    for path, size in ((disk, DISK_BYTES), (log, 512 << 20), (export, 0)):
        with open(path, "wb") as file:
            file.truncate(size)
    run("mkfs.ext4", "-q", "-F", "-O", "^metadata_csum", str(disk))
    empty = folder / "empty"
    shutil.copy(disk, empty)
    daemon = subprocess.Popen([
        "qemu-storage-daemon",
        "--blockdev", f"driver=file,filename={disk},node-name=d",
        "--blockdev", f"driver=file,filename={log},node-name=l",
        "--blockdev", "driver=blklogwrites,node-name=b,file=d,log=l,log-sector-size=512,log-super-update-interval=1",
        "--export", f"type=fuse,id=e,node-name=b,mountpoint={export},writable=on",
    ])
    try:
        for _ in range(100):
            if export.stat().st_size == DISK_BYTES:
                break
            time.sleep(0.05)
        else:
            skip("the recording export did not come up")
        device = attach(export)
        acks = []
        try:
            with Mounted(device, point):
                save = subprocess.Popen([child, "save", point / "shard", broken], stdout=subprocess.PIPE, text=True)
                for line in save.stdout:
                    acks.append((entry_count(log), int(line)))
                if save.wait() != 0:
                    sys.exit("the saving program failed")
        finally:
            run("losetup", "-d", device)
    finally:
        daemon.terminate()
        daemon.wait()
    return empty, log, acks


def check(folder, image, child):
    """What opens: the number of the generation, or a sentence."""
    point = folder / "check"
    point.mkdir(exist_ok=True)
    device = attach(image)
    try:
        with Mounted(device, point):
            done = subprocess.run([child, "check", point / "shard"], capture_output=True, text=True)
    finally:
        run("losetup", "-d", device)
    return int(done.stdout) if done.returncode == 0 else (done.stdout + done.stderr).strip()


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--states", type=int, default=500)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--broken", default="none", choices=["none", "no-file-sync", "no-folder-sync"])
    asked = arguments.parse_args()
    reason = missing()
    if reason:
        skip(reason)
    child = build()
    chance = random.Random(asked.seed)
    with tempfile.TemporaryDirectory(prefix="titans-block-") as name:
        folder = pathlib.Path(name)
        try:
            empty, log, acks = record(folder, child, asked.broken)
        except subprocess.CalledProcessError as error:
            # Not allowed to make or mount a file system here.
            skip(f"{error.cmd[0]}: {(error.stderr or '').strip()}")
        found, sector = entries(log)
        writes = sum(1 for kind, *_ in found if not kind & (FLUSH | DISCARD))
        first = acks[0][0]
        print(f"{len(found)} entries, {writes} plain writes, {len(acks)} acknowledgements")
        # Every prefix, then prefixes with losses until there are enough.
        moments = list(range(1, len(found) + 1))
        plan = [(at, False) for at in moments]
        while len(plan) < asked.states:
            plan.append((chance.choice(moments), True))
        if len(moments) > asked.states:
            plan = [(at, chance.random() < 0.5) for at in chance.sample(moments, asked.states)]
        plan.sort()
        image, base = folder / "image", folder / "base"
        shutil.copy(empty, base)
        flushed_to, bad, states = 0, [], 0
        started = time.time()
        with open(log, "rb") as data:
            def put(file, entry):
                kind, at, sectors, offset = entry
                if kind & DISCARD or sectors == 0:
                    return
                data.seek(offset)
                file.seek(at * sector)
                file.write(data.read(sectors * sector))

            for moment, loses in plan:
                # What a flush has made safe goes to the base for good.
                last_flush = max((at for at in range(moment) if found[at][0] & FLUSH), default=0)
                with open(base, "r+b") as file:
                    for entry in found[flushed_to:last_flush]:
                        put(file, entry)
                flushed_to = max(flushed_to, last_flush)
                shutil.copy(base, image)
                with open(image, "r+b") as file:
                    for entry in found[flushed_to:moment]:
                        if entry[0] & FUA or not loses or chance.random() < 0.5:
                            put(file, entry)
                acknowledged = max((number for count, number in acks if count <= moment), default=0)
                states += 1
                verdict = check(folder, image, child)
                if not isinstance(verdict, int):
                    bad.append(f"after entry {moment}{' with losses' if loses else ''}: {verdict}")
                elif verdict < acknowledged:
                    bad.append(f"after entry {moment}: {verdict} opens, {acknowledged} was acknowledged")
        for line in bad[:5]:
            print(line)
        print(f"{states} states on ext4 in {time.time() - started:.0f} s, {len(bad)} bad "
              f"(seed {asked.seed}, {asked.broken} broken, first acknowledgement at entry {first})")
        if (asked.broken == "none") != (not bad):
            sys.exit("not what was expected")


if __name__ == "__main__":
    main()
