"""Clients of two libraries with their default retries, which ask all the time while proxies are restarted."""

import json
import random
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from proxy.devservers.servers import LOOPBACK
from tests.live.nodejs import node


class RollingClients:
    """``count`` clients of redis-py and as many of ioredis, at ``port``; ``script``: the folder of the node script.

    Some ask all the time, and some rarely, so that connections are closed while they are idle and while they are not.
    """

    def __init__(self, port: int, count: int, script: Path) -> None:
        self._port = port
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(count)]
        command = [node(), "rolling_ioredis.js", LOOPBACK, str(port), str(count)]
        self._node = subprocess.Popen(
            command, cwd=script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.answered: dict[str, int] = {"redis-py": 0, "ioredis": 0}
        self.failed: list[str] = []

    def __enter__(self) -> Self:
        assert self._node.stdout is not None
        assert self._node.stdout.readline() == "started\n"
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        try:
            said, _ = self._node.communicate(timeout=60)
        finally:
            self._node.kill()
            for thread in self._threads:
                thread.join()
        if kind is None:
            found = json.loads(said.splitlines()[-1])
            self.answered["ioredis"] = found["answered"]
            self.failed += found["failed"]

    def _ask(self, number: int) -> None:
        rng = random.Random(number)
        key = f"redis-py:{number}"
        with redis.Redis(host=LOOPBACK, port=self._port, decode_responses=True) as client:
            count = 0
            while not self._over.is_set():
                count += 1
                try:
                    client.set(key, count)
                    value = client.get(key)
                    if value != str(count):
                        self.failed.append(f"{key}: {value!r} instead of {count}")
                    with client.pipeline(transaction=number % 2 == 0) as pipe:
                        for _ in range(10):
                            pipe.get(key)
                        if pipe.execute() != [str(count)] * 10:
                            self.failed.append(f"{key}: another value in a pipeline")
                    self.answered["redis-py"] += 12
                except redis.RedisError as error:
                    self.failed.append(f"{key}: {error!r}")
                time.sleep(rng.choice((0.0, 0.01, 0.3)))
