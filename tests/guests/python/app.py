"""Does what its settings say, however bad: `{"do": "loop"}`.

What it finds out (a number, a time, the words of an error) it answers as a reason, so that a host test can see it.
"""

import json
import math
import os
import random
import secrets
import socket
import struct
import sys
import time
from typing import Any

from wit_world import exports
from wit_world.imports import config, delivery, effects, events, log, types


def loop() -> str:
    while True:
        pass


def memory() -> str:
    held = []
    while True:
        held.append(bytearray(1 << 20))


def recursion() -> str:
    sys.setrecursionlimit(1 << 30)

    def deeper(depth: int) -> int:
        return deeper(depth + 1) + 1

    return str(deeper(0))


def host_calls() -> str:
    while True:
        config.settings()


def log_flood() -> str:
    for number in range(90):
        log.write(log.Level.INFO, "flood " * 1000, [("number", str(number))])
    return "logged"


def print_flood() -> str:
    for number in range(2000):
        print("flood", number)
    return "printed"


def prints() -> str:
    print("printed")
    return "printed"


def print_raise() -> str:
    print("printed and kept")
    print("an error", file=sys.stderr)
    raise ValueError("told to raise")


def big_answer() -> str:
    return "x" * (8 << 20)


def raises() -> str:
    raise ValueError("told to raise")


def leave() -> str:
    sys.exit(3)


def sleep() -> str:
    begun = time.monotonic()
    time.sleep(3600)
    return f"slept {round(time.monotonic() - begun)}"


def clock() -> str:
    """Tries to tell how long something took, and what day it is."""
    begun = time.perf_counter_ns()
    sum(range(200_000))
    return f"{time.perf_counter_ns() - begun} {time.time():.3f}"


def chance() -> str:
    """Every source of random numbers there is, and what hashes depend on."""
    names = {f"name-{secrets.randbelow(1 << 30)}" for _ in range(50)}
    return " ".join(
        [
            str(random.Random().random()),
            secrets.token_hex(8),
            str(hash("a text")),
            str(hash(frozenset(names))),
            ",".join(list(names)[:3]),
        ]
    )


def floats() -> str:
    """Sums and functions whose last bits a compiler may choose."""
    values = [math.sin(n) * math.exp(n % 7) / (n + 0.1) for n in range(2000)]
    total = math.fsum(values) + sum(values)
    odd = [float("nan"), -float("nan"), float("inf") - float("inf"), -0.0, 5e-324]
    bits = struct.pack(f"<{len(odd)}d", *odd).hex()
    return f"{struct.pack('<d', total).hex()} {bits}"


def files() -> str:
    return tried(lambda: open("/etc/passwd", encoding="utf-8").read())


def network() -> str:
    return tried(lambda: socket.create_connection(("127.0.0.1", 80)))


def surroundings() -> str:
    return json.dumps([dict(os.environ), sys.argv[1:], tried(lambda: sys.stdin.read())])


def payload() -> str:
    return f"{len(delivery.payload())} bytes"


def tried(what: Any) -> str:
    try:
        return f"got {what()!r}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


WAYS = {
    "loop": loop,
    "memory": memory,
    "recursion": recursion,
    "host-calls": host_calls,
    "log-flood": log_flood,
    "print-flood": print_flood,
    "print": prints,
    "print-raise": print_raise,
    "big-answer": big_answer,
    "raise": raises,
    "exit": leave,
    "sleep": sleep,
    "clock": clock,
    "chance": chance,
    "floats": floats,
    "files": files,
    "network": network,
    "surroundings": surroundings,
    "payload": payload,
}


class Settings(exports.Settings):
    """One key, `do`."""

    def schema(self) -> str:
        return json.dumps({"type": "object", "required": ["do"]})

    def validate(self, settings: str) -> list[types.Problem]:
        if json.loads(settings).get("do") in WAYS:
            return []
        return [types.Problem("do", None, None, f"one of {', '.join(WAYS)}")]


class Trigger(exports.Trigger):
    """Behaves."""

    def decide(self, event: events.Event) -> effects.Plan:
        way = json.loads(config.settings())["do"]
        return effects.Plan([], [WAYS[way]()], [])
