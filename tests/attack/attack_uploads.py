"""Malformed uploads, and uploads that are small on the wire and large in memory. Each attack ends with the honest peer being served."""

from __future__ import annotations

import json
import threading

import uploads
from attack_target import HOSTILE, Target, uuid
from vdc.api import content_digest
from vdc.archive import tar_gz
from vdc.suite import Scenario, scenarios


def starts(target: Target) -> None:
    """The master under attack serves an honest peer."""
    target.start()
    target.expect_served()


def bad_uploads(target: Target) -> None:
    """Archives and inventories that no peer makes: refused, or taken faithfully."""
    with target.bounded_memory("bad uploads"):
        for name, body, allowed in uploads.malformed(json.dumps(target.inventory(1 << 20, "evil")).encode()):
            number = (1 << 20) + target.next_number()
            code, said = target.put(uuid(number), body, source=HOSTILE)
            target.record(name, code in allowed, f"got {code} {said[:200]!r}, not one of {allowed}")
    target.expect_served()


def wrong_declarations(target: Target) -> None:
    """Headers and paths of uploads that do not fit the body."""
    body = tar_gz([("inventory.json", b"{}")])
    node = uuid(1 << 21)
    for name, method, path, sent, headers, allowed in (
        ("another digest", "PUT", f"/api/v1/nodes/{node}/upload", body, {"Content-Digest": content_digest(b"other")}, (422,)),
        ("no digest", "PUT", f"/api/v1/nodes/{node}/upload", body, {}, (400,)),
        ("a digest of nothing", "PUT", f"/api/v1/nodes/{node}/upload", body, {"Content-Digest": "sha-256=:AAAA:"}, (400,)),
        ("a digest by another name", "PUT", f"/api/v1/nodes/{node}/upload", body, {"Content-Digest": "md5=:AAAA:"}, (400,)),
        ("a length beyond all bounds", "PUT", f"/api/v1/nodes/{node}/upload", b"",
         {"Content-Length": "99999999999999", "Content-Digest": content_digest(body)}, (413, 507, 429, 503)),
        ("a length that is none", "PUT", f"/api/v1/nodes/{node}/upload", b"",
         {"Content-Length": "-1", "Content-Digest": content_digest(body)}, (400,)),
        ("a node that climbs", "PUT", "/api/v1/nodes/..%2f..%2fx/upload", body, {"Content-Digest": content_digest(body)}, (400, 404)),
        ("a node of 5,000 characters", "PUT", f"/api/v1/nodes/{'a' * 5000}/upload", body, {"Content-Digest": content_digest(body)}, (400, 404, 414)),
        ("a node with a zero", "PUT", "/api/v1/nodes/a%00b/upload", body, {"Content-Digest": content_digest(body)}, (400, 404)),
        ("a node of escapes", "PUT", "/api/v1/nodes/%1b%5b2J/upload", body, {"Content-Digest": content_digest(body)}, (400, 404)),
    ):
        code, said = target.ask(method, path, sent, headers, HOSTILE)
        target.record(name, code in allowed, f"got {code} {said[:200]!r}, not one of {allowed}")
    target.expect_served()


def _upload_at_once(target: Target, body: bytes, count: int) -> int:
    """The same upload for several nodes at the same time; returns how many got an answer."""
    answers: list[int] = []

    def put(number: int) -> None:
        answers.append(target.put(uuid((1 << 22) + number), body, HOSTILE, timeout=120.0)[0])

    threads = [threading.Thread(target=put, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(150)
    return len(answers)


def bombs(target: Target) -> None:
    """Small on the wire, large in memory: sixteen at once."""
    inventory = json.dumps(target.inventory(1 << 22, "bomb")).encode()
    for name, body in (
        ("a gigabyte of zeros", uploads.bomb(inventory)), ("twelve million empty lists", uploads.dense(12)), ("three million", uploads.dense(3)),
    ):
        with target.bounded_memory(name):
            answers = _upload_at_once(target, body, 16)
            target.record(name, answers == 16, f"{16 - answers} of 16 uploads have no answer")
        target.expect_served()


CHECKS: list[Scenario[Target]] = scenarios(starts, bad_uploads, wrong_declarations)
