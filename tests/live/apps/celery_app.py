"""Celery, unmodified: ``celery_app.py HOST PORT`` starts a worker and gives it work; with ``worker`` it is one."""

import subprocess
import sys
import time

from celery import Celery, Task, chain, chord, group

HOST, PORT, *ROLE = sys.argv[1:]
URL = f"redis://{HOST}:{PORT}/0"
WAIT = 30

app = Celery("app", broker=URL, backend=URL)
app.conf.update(
    task_default_queue="celery",
    task_acks_late=True,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)


@app.task
def add(one: int, other: int) -> int:
    return one + other


@app.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task(bind=True, max_retries=3)
def third_time(self: Task) -> int:
    """Fails twice, and is put off each time."""
    if self.request.retries < 2:
        raise self.retry(countdown=0.2)
    return self.request.retries


@app.task(ignore_result=False)
def fails() -> None:
    raise ValueError("as it should")


def main() -> None:
    worker = subprocess.Popen([sys.executable, __file__, HOST, PORT, "worker"])
    try:
        until = time.monotonic() + WAIT
        while not app.control.ping(timeout=1.0):  # a broadcast, answered over a list
            assert time.monotonic() < until, "no worker answers"
        numbers = range(40)
        results = [add.delay(number, number) for number in numbers]
        assert [result.get(timeout=WAIT) for result in results] == [2 * number for number in numbers]
        assert add.apply_async((2, 3), queue="celery-other").get(timeout=WAIT) == 5
        assert add.apply_async((2, 4), priority=9).get(timeout=WAIT) == 6
        # A moment later: Celery does not wait until its subscriptions stand, nor ask for what came before.
        soon = group(add.s(number, 1).set(countdown=0.5) for number in numbers)
        assert soon().get(timeout=WAIT) == [number + 1 for number in numbers]
        assert chain(add.s(1, 2), add.s(3), add.s(4))().get(timeout=WAIT) == 10
        assert chord((add.s(number, number) for number in range(10)), total.s())().get(timeout=WAIT) == 90
        assert third_time.delay().get(timeout=WAIT) == 2
        assert isinstance(fails.delay().get(timeout=WAIT, propagate=False), ValueError)
        assert add.apply_async((1, 1), countdown=0.3).get(timeout=WAIT) == 2
        put_off = add.apply_async((1, 1), countdown=3600)
        [scheduled] = app.control.inspect(timeout=2.0).scheduled().values() or [[]]
        assert put_off.id in [each["request"]["id"] for each in scheduled]
        put_off.revoke()
    finally:
        worker.terminate()
        worker.wait(WAIT)
    print("done")


if __name__ == "__main__":
    if ROLE:
        arguments = [
            "worker",
            "--pool=threads",
            "--concurrency=4",
            "--queues=celery,celery-other",
            "--loglevel=warning",
        ]
        app.worker_main(arguments)
    else:
        main()
