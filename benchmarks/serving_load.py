"""Requests a second, latency and memory of a running `disa serve`, for several numbers of clients.

`disa serve --queue 100`, then
`python benchmarks/serving_load.py http://127.0.0.1:8017 --clients 1 8 64 --requests 10000`
"""

import argparse
import http.client
import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from disa.picturebook import TEST_SEED, render

LABELS = {"labels": "house|cottage, boat|ship, sun, sea|ocean, sand|beach, grass"}
MEMORY = "process_resident_memory_bytes "


class Client:
    """One connection with a picture of its own."""

    def __init__(self, address: str, number: int) -> None:
        self.connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=120)
        self.refused = 0
        file = io.BytesIO()
        Image.fromarray(render(TEST_SEED, number, 96).image).save(file, "PNG")
        kept = json.loads(self.ask("POST", "/sessions", file.getvalue()))
        self.path = f"/sessions/{kept['id']}/segment"

    def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        """Return the answer; a full server is asked again after the time that it says."""
        while True:
            headers = {"Content-Type": "application/json"}
            self.connection.request(method, path, body, headers)
            response = self.connection.getresponse()
            content = response.read()
            if response.status < 400:
                return content
            if response.status != 429:
                raise SystemExit(f"{path}: {response.status} {content.decode()}")
            self.refused += 1
            time.sleep(float(response.headers["Retry-After"]))

    def run(self, requests: int) -> list[float]:
        """Return the seconds that each of so many requests took, waiting after 429 included."""
        self.connection.close()  # the server ends those that wait long, as for all uploads
        body = json.dumps(LABELS).encode()
        seconds = []
        for _ in range(requests):
            begun = time.monotonic()
            self.ask("POST", self.path, body)
            seconds.append(time.monotonic() - begun)
        return seconds

    def memory(self) -> float:
        """Return the server's memory in MB."""
        self.connection.close()
        lines = self.ask("GET", "/metrics").decode().splitlines()
        value = next(line for line in lines if line.startswith(MEMORY))
        return float(value.removeprefix(MEMORY)) / 1e6


def main() -> None:
    """Print a JSON line for each number of clients."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--requests", type=int, default=1000, help="of all clients together")
    asked = parser.parse_args()
    for count in asked.clients:
        clients = [Client(asked.address, number) for number in range(count)]
        before = clients[0].memory()
        begun = time.monotonic()
        with ThreadPoolExecutor(count) as pool:
            shares = [max(1, asked.requests // count)] * count
            seconds = np.concatenate(list(pool.map(Client.run, clients, shares)))
        numbers = {
            "clients": count,
            "requests": len(seconds),
            "requests_per_second": round(len(seconds) / (time.monotonic() - begun), 2),
            "p50_seconds": round(float(np.quantile(seconds, 0.5)), 3),
            "p95_seconds": round(float(np.quantile(seconds, 0.95)), 3),
            "refused": sum(client.refused for client in clients),
            "memory_mb_before": round(before),
            "memory_mb_after": round(clients[0].memory()),
        }
        print(json.dumps(numbers), flush=True)


if __name__ == "__main__":
    main()
