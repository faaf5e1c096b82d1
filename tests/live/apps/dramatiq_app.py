"""Dramatiq, unmodified: ``dramatiq_app.py HOST PORT`` runs workers in its threads and gives them work."""

import sys

import dramatiq
from dramatiq import group, pipeline
from dramatiq.brokers.redis import RedisBroker
from dramatiq.rate_limits import ConcurrentRateLimiter
from dramatiq.rate_limits.backends import RedisBackend as LimiterBackend
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

HOST, PORT = sys.argv[1], int(sys.argv[2])
WAIT = 30_000

broker = RedisBroker(host=HOST, port=PORT)
broker.add_middleware(Results(backend=RedisBackend(host=HOST, port=PORT)))
dramatiq.set_broker(broker)
limiter = ConcurrentRateLimiter(LimiterBackend(host=HOST, port=PORT), "dramatiq-limit", limit=1)
failures = []


@dramatiq.actor(store_results=True)
def add(one: int, other: int) -> int:
    return one + other


@dramatiq.actor(store_results=True, max_retries=3, min_backoff=100, max_backoff=200)
def third_time() -> int:
    failures.append(1)
    if len(failures) < 3:
        raise ValueError("not yet")
    return len(failures)


@dramatiq.actor(store_results=True, queue_name="other", max_retries=50, min_backoff=20, max_backoff=50)
def alone(number: int) -> int:
    with limiter.acquire():
        return number


def main() -> None:
    worker = dramatiq.Worker(broker, worker_threads=4, worker_timeout=100)
    worker.start()
    try:
        messages = [add.send(number, number) for number in range(40)]
        assert [each.get_result(block=True, timeout=WAIT) for each in messages] == [2 * number for number in range(40)]
        assert third_time.send().get_result(block=True, timeout=WAIT) == 3
        assert add.send_with_options(args=(1, 2), delay=300).get_result(block=True, timeout=WAIT) == 3
        work = pipeline([add.message(1, 2), add.message(3), add.message(4)]).run()
        assert work.get_result(block=True, timeout=WAIT) == 10
        many = group(alone.message(number) for number in range(8)).run()
        assert sorted(many.get_results(block=True, timeout=WAIT)) == list(range(8))
        broker.join("default", timeout=WAIT)
    finally:
        worker.stop()
    print("done")


if __name__ == "__main__":
    main()
