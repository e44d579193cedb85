#!/usr/bin/env python3
"""titans-pytorch and this project in turn, A B A B, and the ratios.

Makes its own virtual environment beside itself on the first run. Needs cargo and Python 3.9
or newer; nothing but the standard library is used here.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import venv

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent.parent


def environment(where):
    """The interpreter of an environment that has the peer."""
    python = where / "bin" / "python"
    if not python.exists():
        venv.create(where, with_pip=True)
    has_peer = [python, "-c", "import titans_pytorch"]
    if subprocess.run(has_peer, stderr=subprocess.DEVNULL).returncode != 0:
        install = [python, "-m", "pip", "install", "-q"]
        subprocess.run([*install, "torch==2.8.0", "numpy==2.4.6"], check=True)
        requirements = HERE / "requirements.txt"
        subprocess.run([*install, "--no-deps", "-r", requirements], check=True)
    return python


def peer(python, shape, threads, seconds):
    dim, depth, chunk, call = shape
    command = [python, HERE / "peer.py", "--dim", dim, "--depth", depth, "--chunk", chunk]
    command += ["--call", call, "--threads", threads, "--seconds", seconds]
    env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [str(word) for word in command]
    output = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE)
    row = json.loads(output.stdout.splitlines()[-1])
    return row["tokens_per_second"], row["tokens_per_cpu_second"], row["peak_mib"]


def ours(shape, threads, seconds):
    dim, depth, chunk, call = shape
    row = f"dense,{dim},{depth},{4 * dim},{chunk},1,{call}"
    program = ROOT / "target" / "release" / "bench_cpu"
    env = {**os.environ, "RAYON_NUM_THREADS": str(threads)}
    command = [program, "--row", row, "--seconds", str(seconds)]
    output = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
    fields = output.stdout.split()
    return float(fields[7]), float(fields[8]), float(fields[-1])


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--seconds", type=float, default=3.0, help="per measurement")
    options.add_argument("--rounds", type=int, default=2, help="A B pairs per row")
    options.add_argument("--venv", type=pathlib.Path, default=HERE / ".venv")
    options.add_argument("--chunks", default="64,1024,4096,1,64/1", help="tokens per update, /call")
    options.add_argument("--shapes", default="256x2,384x3", help="width x layers")
    options.add_argument("--no-build", action="store_true", help="what was built last will do")
    options = options.parse_args()

    if not options.no_build:
        build = ["cargo", "build", "--release", "-p", "titans-bench", "--bin", "bench_cpu"]
        subprocess.run(build, cwd=ROOT, check=True)
    python = environment(options.venv)
    print(f"{options.threads} threads, medians of {options.rounds} rounds; ratios are ours / peer's")
    print(
        " dim depth chunk  call |   peer tok/s  per CPU-s  MiB |   ours tok/s  per CPU-s  MiB |"
        "  tok/s  CPU  memory"
    )
    for widths in options.shapes.split(","):
        dim, depth = map(int, widths.split("x"))
        for chunk in options.chunks.split(","):
            chunk, _, call = chunk.partition("/")
            shape = (dim, depth, int(chunk), int(call or chunk))
            a, b = [], []
            for _ in range(options.rounds):
                a.append(peer(python, shape, options.threads, options.seconds))
                b.append(ours(shape, options.threads, options.seconds))
            a, b = ([statistics.median(column) for column in zip(*rows)] for rows in (a, b))
            print(
                f"{dim:4} {depth:5} {shape[2]:5} {shape[3]:5} |"
                f" {a[0]:12.0f} {a[1]:10.0f} {a[2]:4.0f} |"
                f" {b[0]:12.0f} {b[1]:10.0f} {b[2]:4.0f} |"
                f" {b[0] / a[0]:5.1f}x {b[1] / a[1]:4.1f}x {b[2] / a[2]:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    sys.exit(main())
