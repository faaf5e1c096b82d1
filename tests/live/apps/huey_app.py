"""Huey, unmodified: ``huey_app.py HOST PORT`` runs consumers of three kinds of queues in its threads, and gives them
work."""

import sys
import time

from huey import PriorityRedisHuey, RedisExpireHuey, RedisHuey

HOST, PORT = sys.argv[1:]
WAIT = 30


def use(huey: RedisHuey) -> None:
    """Have tasks carried out by a consumer of ``huey``."""
    failures = []

    @huey.task()
    def add(one: int, other: int) -> int:
        return one + other

    @huey.task(retries=2, retry_delay=0)
    def second_time() -> int:
        failures.append(1)
        if len(failures) < 2:
            raise ValueError("not yet")
        return len(failures)

    @huey.task()
    @huey.lock_task("only-one")
    def alone() -> bool:
        return True

    consumer = huey.create_consumer(workers=3, scheduler_interval=1, periodic=False)
    consumer.start()
    try:
        results = [add(number, number) for number in range(30)]
        assert [result.get(blocking=True, timeout=WAIT) for result in results] == [2 * number for number in range(30)]
        until = time.monotonic() + WAIT
        flaky = second_time()
        while len(failures) < 2:
            assert time.monotonic() < until
            time.sleep(0.02)
        assert flaky.id
        assert alone().get(blocking=True, timeout=WAIT)
        assert add.s(1, 2).then(add, 3).then(add, 4)
        pipeline = huey.enqueue(add.s(1, 2).then(add, 3).then(add, 4))
        assert pipeline.get(blocking=True, timeout=WAIT) == [3, 6, 10]
        assert add.schedule((5, 6), delay=1).get(blocking=True, timeout=WAIT) == 11
        assert sorted(add.map([(number, 1) for number in range(5)]).get(blocking=True, timeout=WAIT)) == [1, 2, 3, 4, 5]
    finally:
        consumer.stop(graceful=True)
    huey.flush()


if __name__ == "__main__":
    for kind, name in (RedisHuey, "plain"), (PriorityRedisHuey, "priority"), (RedisExpireHuey, "expire"):
        use(kind(name, host=HOST, port=int(PORT)))
    print("done")
