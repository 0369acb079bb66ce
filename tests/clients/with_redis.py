# redis-py at its ordinary work: HOST PORT.
import sys
import threading

import redis

host, port = sys.argv[1], int(sys.argv[2])


def connected(**more):
    return redis.Redis(host=host, port=port, decode_responses=True, socket_timeout=10, **more)


def ordinary(protocol):
    r = connected(protocol=protocol)
    assert r.ping()
    r.delete("py:a", "py:b", "py:h", "py:z", "py:s", "py:l")
    assert r.set("py:a", "1", ex=100) and r.get("py:a") == "1"
    assert 0 < r.ttl("py:a") <= 100
    assert r.mset({f"py:m{n}": n for n in range(200)})
    assert r.mget([f"py:m{n}" for n in range(200)]) == [str(n) for n in range(200)]
    assert r.exists(*[f"py:m{n}" for n in range(200)]) == 200
    assert r.hset("py:h", mapping={"x": "1", "y": "2"}) == 2
    assert r.hgetall("py:h") == {"x": "1", "y": "2"}
    assert r.zadd("py:z", {"a": 1.5, "b": 2}) == 2
    assert r.zrange("py:z", 0, -1, withscores=True) == [("a", 1.5), ("b", 2.0)] or protocol == 3
    assert r.sadd("py:s", "a", "b") == 2 and r.smembers("py:s") == {"a", "b"}
    assert len(list(r.scan_iter("py:m*", count=50))) == 200
    assert r.delete(*[f"py:m{n}" for n in range(200)]) == 200
    try:
        r.incr("py:h")
        raise AssertionError("a hash was counted")
    except redis.ResponseError as error:
        assert "WRONGTYPE" in str(error), error


def pipelines():
    r = connected()
    plain = r.pipeline(transaction=False)
    for n in range(500):
        plain.set(f"py:p{n}", n)
        plain.get(f"py:p{n}")
    answers = plain.execute()
    assert answers == [x for n in range(500) for x in (True, str(n))]
    # A transaction with a watch that is broken, then one that is kept.
    r.set("{py}count", 1)
    with r.pipeline() as pipe:
        pipe.watch("{py}count")
        r.set("{py}count", 5)
        pipe.multi()
        pipe.incr("{py}count")
        try:
            pipe.execute()
            raise AssertionError("a broken watch went unseen")
        except redis.WatchError:
            pass
    r.transaction(lambda pipe: (pipe.multi(), pipe.incr("{py}count"), pipe.rpush("{py}log", "x")), "{py}count")
    assert r.get("{py}count") == "6"


def scripts():
    r = connected()
    double = r.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1]) * 2")
    r.set("py:n", 1)
    assert double(keys=["py:n"], args=[4]) == 10
    r.script_flush()
    # The script is gone everywhere: the client sends it again.
    assert double(keys=["py:n"], args=[1]) == 12


def blocking():
    r = connected()
    r.delete("py:queue")
    got = []
    waiter = threading.Thread(target=lambda: got.append(connected().blpop("py:queue", timeout=10)))
    waiter.start()
    r.rpush("py:queue", "job")
    waiter.join()
    assert got == [("py:queue", "job")], got
    assert connected().blpop("py:queue", timeout=0.1) is None


def publish_and_subscribe():
    r = connected()
    subscription = r.pubsub()
    subscription.subscribe("py:channel")
    subscription.psubscribe("py:pattern:*")
    for _ in range(2):
        assert subscription.get_message(timeout=10)["type"] in ("subscribe", "psubscribe")
    r.publish("py:channel", "hello")
    assert subscription.get_message(timeout=10)["data"] == "hello"
    r.publish("py:pattern:1", "there")
    message = subscription.get_message(timeout=10)
    assert (message["type"], message["channel"], message["data"]) == ("pmessage", "py:pattern:1", "there")
    subscription.unsubscribe()
    subscription.punsubscribe()
    subscription.close()


def streams():
    r = connected()
    r.delete("py:stream")
    ids = [r.xadd("py:stream", {"n": n}) for n in range(10)]
    r.xgroup_create("py:stream", "g", id="0")
    [[_, entries]] = r.xreadgroup("g", "c", {"py:stream": ">"}, count=4)
    assert [entry[0] for entry in entries] == ids[:4]
    assert r.xack("py:stream", "g", *ids[:4]) == 4
    assert r.xlen("py:stream") == 10


for version in (2, 3):
    ordinary(version)
pipelines()
scripts()
blocking()
publish_and_subscribe()
streams()
