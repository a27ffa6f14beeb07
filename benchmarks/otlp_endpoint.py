"""`unspool serve` under four clients that send as fast as it answers (goal: 5,000 spans a second, nothing lost).

The server and the clients are processes of their own. A batch has 512 spans, as OpenTelemetry's exporters send them, in
protobuf and packed with gzip. What is counted at the end are different span ids on disk.
"""

from __future__ import annotations

import gzip
import http.client
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

from benchmarks.otlp_import import make_spans, request
from unspool.trace.storage import SpanReader

CLIENTS = 4
BATCHES = 40
BATCH = 512
GOAL = 5_000


def _client(number: int, port: int, barrier: Barrier) -> None:
    bodies = [
        gzip.compress(request(make_spans(BATCH, (number * BATCHES + batch) * BATCH, 8), "proto"), 1)
        for batch in range(BATCHES)
    ]
    headers = {"content-type": "application/x-protobuf", "content-encoding": "gzip"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    barrier.wait()
    for body in bodies:
        while True:
            connection.request("POST", "/v1/traces", body, headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status == 200:
                break
            assert answer.status in (429, 503), answer.status
            time.sleep(float(answer.getheader("retry-after") or 1))
            connection.close()
    barrier.wait()


def main() -> None:
    """Print spans a second, and how many are in the store."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "unspool", "serve", "--port", "0", "--store", folder]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
        assert server.stdout is not None
        port = int(server.stdout.readline().split(":")[2].partition("/")[0])
        barrier = multiprocessing.get_context("spawn").Barrier(CLIENTS + 1)
        clients = [
            multiprocessing.get_context("spawn").Process(target=_client, args=(number, port, barrier))
            for number in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        barrier.wait()
        began = time.perf_counter()
        barrier.wait()
        taken = time.perf_counter() - began
        for client in clients:
            client.join()
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)
        reader = SpanReader(Path(folder) / "traces")
        ids = {span.span_id for name in os.listdir(reader.base_dir) for span in reader.read_trace(name)}
    sent = CLIENTS * BATCHES * BATCH
    rate = sent / taken
    print(f"{CLIENTS} clients, {sent:,} spans in {taken:.1f} s: {rate:,.0f} spans/s (goal {GOAL:,})")
    print(f"in the store: {len(ids):,} of {sent:,}{'' if len(ids) == sent else ': LOST'}")


if __name__ == "__main__":
    main()
