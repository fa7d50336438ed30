#!/usr/bin/env python3
"""First publishes over a TLS link of 50 ms each way: HTTP/2 beside HTTP/1.1, and two programs.

usage: publish.py ROUNDS PMX [PMX]...    (as root; needs ip, nginx, openssl)

The server is in a network namespace of its own: `pmx serve` behind nginx, which ends TLS on two
ports, of which one offers HTTP/2. Two TUN devices are the link; this script carries each packet
from one to the other after the delay, so that TCP and TLS take their round trips as they do over
a network (the kernel's netem does the same where it is compiled in). Contenders take turns, each
publish is the first of a new space from an empty cache. Times are of whole processes.
"""

import fcntl
import heapq
import os
import random
import select
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

DELAY = 0.05
FILES, FILE_BYTES, BIG_BYTES = 2_000, 4_000, 8_000_000
SPACE = "pmx-link"
PORTS = {"HTTP/2": 8443, "HTTP/1.1": 8444}
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000


def run(*words, **more):
    return subprocess.run(words, check=True, **more)


def tun(name):
    """A TUN device, of which this process is the other end."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    return device


def carry(one, other):
    """Carries packets both ways, each after the delay."""
    waiting, count = [], 0
    across = {one: other, other: one}
    while True:
        wait = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        for device in select.select([one, other], [], [], wait)[0]:
            try:
                while True:
                    packet = os.read(device, 65_536)
                    count += 1
                    due = time.monotonic() + DELAY
                    heapq.heappush(waiting, (due, count, across[device], packet))
            except BlockingIOError:
                pass
            except OSError:
                return  # its namespace is gone
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, device, packet = heapq.heappop(waiting)
            os.write(device, packet)


def link():
    """The link, as one process: 10.91.0.1 is the client, 10.91.0.2 the server."""
    run("ip", "netns", "add", SPACE)
    one, other = tun("pmxlink0"), tun("pmxlink1")
    run("ip", "link", "set", "pmxlink1", "netns", SPACE)
    inside = ["ip", "netns", "exec", SPACE]
    run("ip", "addr", "add", "10.91.0.1/24", "dev", "pmxlink0")
    run("ip", "link", "set", "pmxlink0", "up", "txqueuelen", "10000")
    run(*inside, "ip", "addr", "add", "10.91.0.2/24", "dev", "pmxlink1")
    run(*inside, "ip", "link", "set", "pmxlink1", "up", "txqueuelen", "10000")
    run(*inside, "ip", "link", "set", "lo", "up")
    threading.Thread(target=carry, args=(one, other), daemon=True).start()


def serve(pmx, folder):
    """`pmx serve` behind nginx."""
    run(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
        "-nodes", "-days", "9", "-subj", "/CN=bench", "-addext", "subjectAltName=IP:10.91.0.2",
        "-addext", "basicConstraints=critical,CA:FALSE",
        "-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem", stderr=subprocess.DEVNULL,
    )
    server = """server {{ listen {port} ssl{more}; location / {{ proxy_pass http://127.0.0.1:8787;
      proxy_http_version 1.1; proxy_set_header Host api.localhost:8787;
      proxy_set_header Connection ""; }} }}"""
    servers = [
        server.format(port=port, more=" http2" if name == "HTTP/2" else "")
        for name, port in PORTS.items()
    ]
    with open(f"{folder}/nginx.conf", "w", encoding="utf-8") as file:
        file.write(f"""user root; daemon off; worker_processes 1; pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{ log_format used "$server_port $server_protocol $connection";
  access_log {folder}/access.log used; client_max_body_size 12m; client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u;
  scgi_temp_path {folder}/s; client_body_buffer_size 12m; keepalive_timeout 60s;
  ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;
  {" ".join(servers)} }}""")
    inside = ["ip", "netns", "exec", SPACE]
    data = ["--data", f"{folder}/data", "--listen", "127.0.0.1:8787"]
    environment = dict(os.environ, PUBLISH_SECRET="s3cret")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    host = subprocess.Popen([*inside, pmx, "serve", *data], env=environment, **quiet)
    nginx = subprocess.Popen([*inside, "nginx", "-c", f"{folder}/nginx.conf"], **quiet)
    time.sleep(2)
    return host, nginx


def site(folder):
    """Files of words, and one that no codec makes smaller."""
    words = [random.randbytes(3).hex() for _ in range(4_000)]
    for number in range(FILES):
        text = " ".join(random.choices(words, k=FILE_BYTES // 7))
        place = f"{folder}/{number // 100}"
        os.makedirs(place, exist_ok=True)
        with open(f"{place}/{number}.html", "w", encoding="utf-8") as file:
            file.write(text)
    with open(f"{folder}/film.bin", "wb") as file:
        file.write(random.randbytes(BIG_BYTES))


def publish(pmx, port, folder, space):
    home = tempfile.mkdtemp(dir=folder)
    environment = {"HOME": home, "PATH": os.environ["PATH"], "PMX_TOKEN": "s3cret"}
    command = [pmx, "sync", "site", "--space", space, "--quiet", "--cacert", "cert.pem",
               "--server", f"https://10.91.0.2:{port}"]
    before = len(used(folder))
    started = time.monotonic()
    run(*command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    took = time.monotonic() - started
    requests = used(folder)[before:]
    protocols = {protocol for _, protocol, _ in requests}
    return took, len({connection for *_, connection in requests}), " ".join(protocols)


def used(folder):
    """Port, protocol and connection of each request so far."""
    with open(f"{folder}/access.log", encoding="utf-8") as file:
        return [line.split() for line in file]


def main():
    random.seed(1)
    rounds, programs = int(sys.argv[1]), [os.path.abspath(path) for path in sys.argv[2:]]
    contenders = [(pmx, name) for pmx in programs for name in PORTS]
    seconds = {contender: [] for contender in contenders}
    running = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            link()
            running = serve(programs[0], folder)
            os.mkdir(f"{folder}/site")
            site(f"{folder}/site")
            for turn in range(rounds + 1):
                for at, (pmx, name) in enumerate(contenders):
                    took = publish(pmx, PORTS[name], folder, f"s{turn}-{at}")
                    if turn > 0:
                        seconds[pmx, name].append(took)
        finally:
            for process in running:
                process.terminate()
                process.wait()
            subprocess.run(["ip", "netns", "del", SPACE], check=False)
    print("| program | offered | spoken | connections | least, s | median, s |")
    print("|---|---|---|---|---|---|")
    for (pmx, name), taken in seconds.items():
        times, connections, spoken = zip(*taken)
        print(f"| {os.path.basename(pmx)} | {name} | {spoken[-1]} | {max(connections)} "
              f"| {min(times):.2f} | {statistics.median(times):.2f} |")


if __name__ == "__main__":
    main()
