#!/usr/bin/env python3
"""A sync that changes nothing, against `pmx serve` on this machine: programs side by side.

usage: unchanged.py ROUNDS PMX [PMX]...

The first program serves. All of them publish the same folder of 500 pages in turns, after a round
that does not count, and find nothing to do: what is left is starting, scanning and one request.
"""

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time

PORT = 18_787


def sync(pmx, folder, home):
    """Wall and processor time of one sync, in milliseconds."""
    environment = {"HOME": home, "PATH": os.environ["PATH"], "PMX_TOKEN": "s3cret"}
    command = [pmx, "sync", "site", "--space", "docs", "--quiet",
               "--server", f"http://127.0.0.1:{PORT}"]
    started = time.perf_counter()
    child = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    wall = time.perf_counter() - started
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        sys.exit(f"{pmx} ended with {child.returncode}")
    return wall * 1000, (used.ru_utime + used.ru_stime) * 1000


def measure(rounds, programs, folder):
    os.mkdir(f"{folder}/site")
    for number in range(500):
        with open(f"{folder}/site/{number}.html", "w", encoding="utf-8") as file:
            file.write(random.randbytes(2_000).hex())
    times = {pmx: [] for pmx in programs}
    for turn in range(rounds + 1):
        for pmx in programs:
            took = sync(pmx, folder, folder)
            if turn > 0:
                times[pmx].append(took)
    print("| program | wall: least, median, ms | processor: least, median, ms |\n|---|---|---|")
    for pmx, taken in times.items():
        wall, used = zip(*taken)
        middle = statistics.median
        print(f"| {os.path.basename(pmx)} | {min(wall):.1f}, {middle(wall):.1f} "
              f"| {min(used):.1f}, {middle(used):.1f} |")


def main():
    rounds, programs = int(sys.argv[1]), [os.path.abspath(path) for path in sys.argv[2:]]
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        data = ["--data", f"{folder}/data", "--listen", f"127.0.0.1:{PORT}"]
        host = subprocess.Popen(
            [programs[0], "serve", *data], env=dict(os.environ, PUBLISH_SECRET="s3cret"),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        try:
            time.sleep(1)
            measure(rounds, programs, folder)
        finally:
            host.terminate()
            host.wait()


if __name__ == "__main__":
    main()
