"""Django's cache, unmodified: ``django_app.py HOST PORT``. No rule is needed, but for ``set_many``."""

import sys

import django
from django.conf import settings
from django.core.cache import cache
from redis.exceptions import ResponseError

HOST, PORT = sys.argv[1:]
NAMES = [f"name{number}" for number in range(30)]


CACHE = {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": f"redis://{HOST}:{PORT}/3"}


def main() -> None:
    settings.configure(
        CACHES={"default": CACHE}, SESSION_ENGINE="django.contrib.sessions.backends.cache", SECRET_KEY="of a test"
    )
    django.setup()
    from django.contrib.sessions.backends.cache import SessionStore

    for number, name in enumerate(NAMES):
        cache.set(name, {"number": number}, timeout=60)
    assert cache.get("name7") == {"number": 7}
    assert cache.get_many(NAMES) == {name: {"number": number} for number, name in enumerate(NAMES)}
    assert not cache.add("name1", 1)
    assert cache.touch("name1", 100)
    assert cache.get_or_set("count", 5) == 5
    assert cache.incr("count", 3) == 8
    assert cache.has_key("count")
    cache.delete_many(NAMES[:20])
    assert len(cache.get_many(NAMES)) == 10
    refused = None
    try:
        cache.set_many(dict.fromkeys(NAMES, 1))
    except ResponseError as error:
        refused = type(error).__name__
    assert refused == "ClusterCrossSlotError", "they were set in one transaction, over several shards"
    cache.set_many({f"{{together}}{name}": 1 for name in NAMES})
    assert len(cache.get_many([f"{{together}}{name}" for name in NAMES])) == 30
    session = SessionStore()
    session["user"] = 12
    session.save()
    assert SessionStore(session.session_key)["user"] == 12
    cache.clear()
    assert not cache.get_many(["count", *NAMES])
    print("done")


if __name__ == "__main__":
    main()
