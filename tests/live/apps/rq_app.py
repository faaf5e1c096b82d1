"""RQ, unmodified: ``rq_app.py HOST PORT`` starts a worker with a scheduler and gives it work; with ``worker`` it is the
worker."""

import subprocess
import sys
import time
from datetime import timedelta

from redis import Redis
from rq import Queue, Retry, SimpleWorker, get_current_job
from rq.command import send_shutdown_command
from rq.job import Job

HOST, PORT, *ROLE = sys.argv[1:]
WAIT = 30
QUEUES = ("high", "default", "low")


def add(one: int, other: int) -> int:
    return one + other


def second_time() -> int:
    """Fails the first time."""
    job = get_current_job()
    assert job is not None
    job.meta["runs"] = job.meta.get("runs", 0) + 1
    job.save_meta()
    if job.meta["runs"] < 2:
        raise ValueError("not yet")
    return job.meta["runs"]


def total(*ids: str) -> int:
    job = get_current_job()
    assert job is not None
    return sum(before.return_value() for before in job.fetch_dependencies())


def result(job: Job) -> object:
    """What a job returned; it is waited for."""
    until = time.monotonic() + WAIT
    while not job.is_finished:
        assert time.monotonic() < until, f"{job} is {job.get_status()}"
        time.sleep(0.02)
    return job.return_value()


def main() -> None:
    import rq_app  # the worker finds the functions by this name

    connection = Redis(HOST, int(PORT))
    worker = subprocess.Popen([sys.executable, __file__, HOST, PORT, "worker"])
    try:
        high, default, low = (Queue(name, connection=connection) for name in QUEUES)
        jobs = [queue.enqueue(rq_app.add, number, 1) for number in range(15) for queue in (high, default, low)]
        assert [result(job) for job in jobs] == [number + 1 for number in range(15) for _ in QUEUES]
        assert result(default.enqueue(rq_app.second_time, retry=Retry(max=2))) == 2
        first, second = default.enqueue(rq_app.add, 1, 2), low.enqueue(rq_app.add, 3, 4)
        assert result(high.enqueue(rq_app.total, depends_on=[first, second])) == 10
        assert result(default.enqueue_in(timedelta(seconds=1), rq_app.add, 5, 6)) == 11
        many = default.enqueue_many([Queue.prepare_data(rq_app.add, (number, number)) for number in range(10)])
        assert [result(job) for job in many] == [2 * number for number in range(10)]
        [found] = SimpleWorker.all(connection=connection)
        send_shutdown_command(connection, found.name)  # by pub/sub
        assert worker.wait(WAIT) == 0
    finally:
        worker.terminate()
        worker.wait(WAIT)
    print("done")


if __name__ == "__main__":
    if ROLE:
        SimpleWorker(QUEUES, connection=Redis(HOST, int(PORT))).work(with_scheduler=True, logging_level="WARNING")
    else:
        main()
