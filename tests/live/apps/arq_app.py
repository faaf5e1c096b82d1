"""arq, unmodified: ``arq_app.py HOST PORT`` runs a worker and gives it work."""

import asyncio
import os
import sys
import traceback
from datetime import timedelta
from typing import Any

from arq import Retry, create_pool
from arq.connections import RedisSettings
from arq.jobs import Job, JobStatus
from arq.worker import Worker

HOST, PORT = sys.argv[1], int(sys.argv[2])
WAIT = 30


async def add(context: dict[str, Any], one: int, other: int) -> int:
    return one + other


async def third_time(context: dict[str, Any]) -> int:
    if context["job_try"] < 3:
        raise Retry(defer=0.1)
    return context["job_try"]


async def forever(context: dict[str, Any]) -> None:
    await asyncio.sleep(3600)


async def main() -> None:
    settings = RedisSettings(host=HOST, port=PORT)
    pool = await create_pool(settings)
    worker = Worker(
        [add, third_time, forever],
        redis_settings=settings,
        poll_delay=0.05,
        handle_signals=False,
        allow_abort_jobs=True,
    )
    running = asyncio.create_task(worker.async_run())
    jobs = [await pool.enqueue_job("add", number, number) for number in range(30)]
    assert [await job.result(timeout=WAIT) for job in jobs] == [2 * number for number in range(30)]
    assert await (await pool.enqueue_job("third_time")).result(timeout=WAIT) == 3
    put_off = await pool.enqueue_job("add", 1, 2, _defer_by=timedelta(seconds=0.5), _job_id="once")
    assert await pool.enqueue_job("add", 1, 2, _job_id="once") is None, "a job's id is taken by a watched transaction"
    assert await put_off.status() in (JobStatus.deferred, JobStatus.queued)
    assert await put_off.result(timeout=WAIT) == 3
    stuck = await pool.enqueue_job("forever")
    while await stuck.status() is not JobStatus.in_progress:
        assert not running.done(), running.result()
        await asyncio.sleep(0.05)
    assert await Job(stuck.job_id, pool).abort(timeout=WAIT)
    assert len(await pool.all_job_results()) == 33
    print("done", flush=True)


if __name__ == "__main__":
    loop = asyncio.new_event_loop()
    ended = loop.create_task(main())
    loop.run_until_complete(asyncio.wait([ended]))
    if (error := ended.exception()) is not None:
        traceback.print_exception(error)
    # Nobody waits for the worker: cancelled, it may not notice, as what it awaits takes the cancellation for its own.
    os._exit(error is not None)
