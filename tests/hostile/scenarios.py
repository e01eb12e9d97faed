"""What a service, or something in front of it, may do to its client, one lie a scenario."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack

from packtrain.testing import Duplicate, FaultPlan
from packtrain.testing.hostile import (
    Answer,
    Lie,
    Play,
    Route,
    body,
    changed,
    drip,
    encoded,
    endless,
    hang,
    hang_up,
    hang_up_acted,
    header,
    instead,
    raw,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from packtrain.testing.hostile import Exchange

#: The calls of every run. Queries, look-ups and cancellations of jobs need a cause.
USUAL: tuple[Route, ...] = ("file.get", "upload.start", "upload.data", "job.list", "results.get", "file.delete")
RARE: tuple[Route, ...] = ("upload.query", "job.get", "job.cancel")
#: For a lie that does no harm, and ends never.
ALWAYS = 10**6
HTML = b"<html><body>Your session has expired. <a href='/login'>Log in</a></body></html>"
DETAIL = b'{"detail":"blocked by policy"}'
GOOGLE = b'{"error":{"code":%d,"message":"no","status":"%s"}}'
_JSON = ("content-type", "application/json")
_HTML = ("content-type", "text/html; charset=utf-8")
_DRIPS: tuple[Literal["body", "headers", "informational", "chunks"], ...] = (
    *("body", "headers", "informational"),
    "chunks",
)
_ENDLESS: tuple[Literal["body", "headers", "header", "informational", "chunks", "gzip"], ...] = (
    *("body", "headers", "header"),
    *("informational", "chunks", "gzip"),
)
_ENCODINGS: tuple[Literal["gzip", "deflate", "br", "cut gzip", "no gzip"], ...] = (
    *("gzip", "deflate"),
    *("br", "cut gzip", "no gzip"),
)
_TWICE = FaultPlan(rules=(Duplicate(route="batches.create", calls=(1,)),))


Mode = Literal["heals", "patience", "stop"]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """``mode``: the lies end by themselves; or last longer than the client's patience; or it is asked to stop while
    they are told. In these two cases they end then, and the run is started again.
    """

    kind: str
    name: str
    #: Made anew for each run, given the address of the trap.
    lies: Callable[[str], list[Lie]]
    mode: Mode = "heals"
    #: Exit codes of the first start, and of the last.
    ends: frozenset[int] = frozenset({0})
    last: frozenset[int] = frozenset({0})
    #: The most jobs that a shard may get: more than one where the service lies about what it has accepted.
    jobs: int = 1
    faults: FaultPlan | None = None
    #: A part of what must be said, as a regular expression.
    says: str = ""
    #: Belongs to the tests.
    tested: bool = False
    #: The lie may go unnoticed, or the client may have no need of the call.
    told: bool = True
    #: The lie does no harm, and needs no message.
    quiet: bool = False


class Facts(TypedDict, total=False):
    """The optional fields of a scenario."""

    mode: Mode
    ends: frozenset[int]
    last: frozenset[int]
    jobs: int
    faults: FaultPlan | None
    says: str
    tested: bool
    told: bool
    quiet: bool


@dataclass
class _Catalogue:
    scenarios: list[Scenario] = field(default_factory=list)
    kind: str = ""

    def add(self, name: str, route: Route, play: Play, *, times: int | None = 6, **facts: Unpack[Facts]) -> None:
        """A lie about a route, and what brings the client to call it."""
        given: Facts = {"mode": "heals", "quiet": times == ALWAYS, **facts}
        if given["mode"] != "heals":
            times = None
            given.setdefault("ends", frozenset({75}))
        if route in ("job.get", "job.cancel"):
            given |= {"faults": _TWICE, "jobs": 2}
        cause: Callable[[], list[Lie]] = list
        if route == "upload.query":
            cause = _lost_data

        def lies(_: str) -> list[Lie]:
            return [*cause(), Lie(route, play, times=times)]

        self.scenarios.append(Scenario(kind=self.kind, name=f"{route}: {name}", lies=lies, **given))

    def add_trap(
        self, name: str, route: Route, play: Callable[[str], Play], *, times: int | None = 4, **facts: Unpack[Facts]
    ) -> None:
        """As ``add``, for a lie that names an address elsewhere."""
        given: Facts = {"quiet": times == ALWAYS, **facts}
        self.scenarios.append(
            Scenario(
                kind=self.kind,
                name=f"{route}: {name}",
                lies=lambda trap: [Lie(route, play(trap), times=times)],
                **given,
            )
        )


def _lost_data() -> list[Lie]:
    return [Lie("upload.data", hang_up, times=2)]


def scenarios() -> list[Scenario]:
    """All of them; names are unique."""
    found = _Catalogue()
    for part in _PARTS:
        found.kind = part.__name__.strip("_")
        part(found)
    names = [f"{scenario.kind} {scenario.name}" for scenario in found.scenarios]
    assert len(set(names)) == len(names), "two scenarios have one name"
    return found.scenarios


def _foreign(found: _Catalogue) -> None:
    """Answers of proxies and gateways, on any call (A8)."""
    for number, route in enumerate((*USUAL, *RARE)):
        for at, (status, content) in enumerate(
            [(403, HTML), (404, DETAIL), (407, b""), (451, HTML), (502, HTML), (511, HTML), (521, b"error code: 521")]
        ):
            if (number + at) % 2:
                continue
            kind = {HTML: [_HTML], DETAIL: [_JSON]}.get(content, [])
            found.add(
                f"{status} with {content[:8].decode() or 'nothing'}",
                route,
                instead(Answer(status, kind, content)),
                tested=(number + at) % 6 == 0 and route not in RARE,
                told=route not in RARE,
            )
    for route in USUAL:
        found.add(
            "403 longer than the patience",
            route,
            instead(Answer(403, [_HTML], HTML)),
            mode="patience",
            **(
                {"ends": frozenset({0}), "says": "could not be deleted|trying again"}
                if route == "file.delete"
                else {"says": r"the answer 403 \(text/html\).*Your session"}
            ),
            tested=route in ("job.list", "results.get", "file.delete", "upload.data"),
        )
    found.add("429 of a gateway", "job.list", instead(Answer(429, [("retry-after", "1")], DETAIL)), tested=True)
    found.add(
        "an error with another service's name", "job.list", instead(Answer(403, [_JSON], GOOGLE % (403, b"blocked")))
    )
    for status in (401, 403):
        name = {401: b"UNAUTHENTICATED", 403: b"PERMISSION_DENIED"}[status]
        found.add(
            f"{status} of the service itself ends the run",
            "job.list",
            instead(Answer(status, [_JSON], GOOGLE % (status, name))),
            mode="patience",
            ends=frozenset({4}),
            tested=status == 403,
        )


def _redirect(status: int, trap: str) -> Play:
    return instead(Answer(status, [("location", f"{trap}/v1beta/x")]))


def _member(name: str, value: str) -> Play:
    """The true answer with another text in a member of JSON."""
    pattern, text = re.compile(rf'"{name}":"[^"]*"'.encode()), f'"{name}":"{value}"'.encode()
    return body(partial(pattern.sub, text))


def _redirects(found: _Catalogue) -> None:
    """They are not followed, and nothing reaches the address that they name."""
    for number, route in enumerate(USUAL):
        for at, status in enumerate((301, 302, 307, 308)):
            if (number + at) % 2:
                continue
            found.add_trap(f"{status} elsewhere", route, partial(_redirect, status), tested=number % 4 == at)
    found.add_trap("307 elsewhere", "create", partial(_redirect, 307), times=1, tested=True)
    found.add_trap("refresh header", "job.list", lambda trap: header("refresh", f"0; url={trap}"))
    found.add_trap("alt-svc header", "job.list", lambda trap: header("alt-svc", f'http="{trap}"; ma=86400'))


def _pages(found: _Catalogue) -> None:
    """200 with what is not the service's."""
    for route in USUAL:
        found.add(
            "200 with a page",
            route,
            instead(Answer(200, [_HTML], HTML)),
            tested=route in ("upload.data", "job.list", "results.get"),
        )
        found.add(
            "200 with a word of a gateway",
            route,
            instead(Answer(200, [_JSON], DETAIL)),
            tested=route in ("job.list", "results.get"),
        )
    for route in ("file.get", "upload.start", "job.list"):
        found.add("200 with nothing", route, instead(Answer(200, [_JSON])), told=True)
        found.add("204", route, instead(Answer(204)))
        found.add("206", route, instead(Answer(206, [_JSON], b"{}")))


def _slow(found: _Catalogue) -> None:
    """A call has a longest time (A10)."""
    for route in USUAL:
        for what in _DRIPS:
            if what in ("chunks", "informational") and route not in ("job.list", "results.get"):
                continue
            found.add(
                f"drips {what}", route, drip(what, 0.02), times=1,
                tested=(what == "headers") == (route not in ("job.list", "file.get", "upload.start")),
                says="" if route == "file.delete" else "has not answered|does not come",  # given up by then
            )  # fmt: skip
        found.add(
            "no answer",
            route,
            hang,
            times=1,
            says="" if route == "file.delete" else "has not answered",
            tested=route in ("upload.data", "results.get"),
        )
    for what in ("body", "headers", "informational"):
        found.add(
            f"drips {what} for good",
            "file.delete",
            drip(what, 0.02),
            mode="patience",
            ends=frozenset({0}),
            says="could not be deleted|trying again|has not answered|does not come",
            tested=what == "body",
        )
    found.add("drips for good", "job.list", drip("body", 0.02), mode="patience", says="does not come", tested=True)


def _endless(found: _Catalogue) -> None:
    """Every answer has a largest size."""
    for what in _ENDLESS:
        for route in ("job.list", "file.get"):
            found.add(
                f"endless {what}",
                route,
                endless(what),
                times=1,
                tested=what in ("headers", "header") and route == "job.list",
            )
    for what in _ENDLESS[1:4]:
        found.add(f"endless {what}", "results.get", endless(what), times=1)
    found.add("endless body", "upload.data", endless("body"), times=1)
    found.add("endless body", "file.delete", endless("body"), times=1)

    async def pages(exchange: Exchange) -> None:
        await exchange.swallow()
        token = exchange.number
        content = json.dumps({"operations": [{"name": f"batches/x{token}"}], "nextPageToken": f"t{token}"}).encode()
        await exchange.send(Answer(200, [_JSON], content).encode())

    found.add("endless pages", "job.list", pages, times=300)
    found.add("stopped among endless pages", "job.list", pages, mode="stop", tested=True)


def _encodings(found: _Catalogue) -> None:
    """Not asked for, decoded all the same where it can be (B10)."""
    for how in _ENCODINGS[:2]:
        for route in USUAL:
            found.add(
                f"{how} for good", route, encoded(how), times=ALWAYS, tested=how == "gzip" and route in USUAL[3:5]
            )
    for how in _ENCODINGS[2:]:
        for route in ("job.list", "results.get", "file.get"):
            says = "content encoding" if route != "file.get" else ""
            found.add(how, route, encoded(how), times=14, says=says, tested=route == "results.get")


def _headers(found: _Catalogue) -> None:
    """Up to 64 kB, then named (B14)."""
    for route in ("job.list", "results.get", "upload.start"):
        found.add(
            "60 kB of headers for good",
            route,
            header("x-long", "y" * 60_000),
            times=ALWAYS,
            tested=route == "results.get",
        )
        found.add(
            "100 kB of headers",
            route,
            header("x-long", "y" * 100_000),
            times=14,
            says="longer than 65536 bytes",
            tested=route == "job.list",
        )
    many = changed(
        lambda answer: Answer(answer.status, answer.headers + [(f"x-{at}", "y") for at in range(2000)], answer.body)
    )
    found.add("2,000 headers", "job.list", many)
    for name, data in {
        "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
        "nothing at all": b"",
        "half a status line": b"HTTP/1.1 2",
        "a status of 999": b"HTTP/1.1 999 So\r\nContent-Length: 0\r\n\r\n",
        "a status of words": b"HTTP/1.1 OK fine\r\n\r\n",
        "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "a header without a colon": b"HTTP/1.1 200 So\r\nfoo\r\n\r\n",
        "101": b"HTTP/1.1 101 Switch\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    }.items():
        found.add(name, "job.list", raw(data), tested=name in ("no HTTP", "101"))
    found.add("control characters", "job.list", instead(Answer(403, [_HTML], b"\x1b[2J\x1b]0;owned\x07\x9b31m<html>")))


def _sizes(found: _Catalogue) -> None:
    """Lengths that are not true."""
    for route in ("job.list", "results.get"):
        found.add(
            "a length too large",
            route,
            changed(lambda a: a.changed("content-length", str(len(a.body) + 100))),
            tested=route == "results.get",
        )
        found.add(
            "a length too small",
            route,
            changed(lambda a: a.changed("content-length", str(max(0, len(a.body) - 5)))),
            told=True,
        )
        found.add("a length of 10^18", route, changed(lambda a: a.changed("content-length", str(10**18))))
        found.add("a negative length", route, changed(lambda a: a.changed("content-length", "-1")))
        found.add(
            "two lengths",
            route,
            changed(
                lambda a: Answer(
                    a.status, [*a.headers, ("content-length", str(len(a.body))), ("content-length", "5")], a.body
                )
            ),
        )
        found.add(
            "a length and chunks",
            route,
            changed(
                lambda a: Answer(
                    a.status, [*a.headers, ("transfer-encoding", "chunked"), ("content-length", "5")], a.body
                )
            ),
        )
    found.add("a cut file of the right length", "results.get", body(lambda data: data[:-20]), tested=True)
    found.add(
        "a file without rows of ours", "results.get", body(lambda _: b'{"key":"other","response":{}}\n'), tested=True
    )
    found.add("416", "results.get", instead(Answer(416)), tested=True)
    found.add(
        "206 from byte 10^9",
        "results.get",
        instead(Answer(206, [("content-range", "bytes 1000000000-1000000009/2000000000")], b"x" * 10)),
    )
    found.add(
        "206 with a senseless range", "results.get", instead(Answer(206, [("content-range", "bytes x-y/z")], b"x"))
    )


def _addresses(found: _Catalogue) -> None:
    """An address elsewhere is never called (S9, A11)."""
    found.add_trap(
        "session elsewhere",
        "upload.start",
        lambda trap: header("x-goog-upload-url", f"{trap}/upload?upload_id=1"),
        tested=True,
    )
    for name, url in {
        "no address": "http://[bad",
        "another host": "http://127.0.0.2:9/upload",
        "user information": "http://user:pass@127.0.0.1:9/upload",
        "a path": "/upload?upload_id=1",
        "a file": "file:///etc/passwd",
        "5,000 characters": "http://127.0.0.1/" + "x" * 5000,
        "nothing": "",
    }.items():
        found.add(
            f"session at {name}",
            "upload.start",
            header("x-goog-upload-url", url),
            tested=name in ("no address", "another host"),
        )

    def everywhere(trap: str) -> Play:
        return body(
            lambda data: re.sub(rb'"http://127[^"]*?(/[^"]*)"', lambda m: b'"%b%b"' % (trap.encode(), m[1]), data)
        )

    for route in ("file.get", "upload.data", "job.list"):
        found.add_trap("links elsewhere for good", route, everywhere, times=ALWAYS, tested=route == "upload.data")
    for name, result in {
        "a parent": "files/../../etc",
        "an address": "https://evil.example/x",
        "a query": "files/x?key=1",
    }.items():
        play = _member("responsesFile", result)
        found.add(f"results at {name}", "job.list", play, times=4, tested=name == "a parent")


def _lists(found: _Catalogue) -> None:
    """Pages of the list of jobs."""

    def token(value: str) -> Play:
        return instead(Answer(200, [_JSON], json.dumps({"operations": [], "nextPageToken": value}).encode()))

    found.add("one token again and again", "job.list", token("t"), times=8, tested=True)
    found.add("a token of 1 MB", "job.list", token("t" * 10**6), times=4)
    found.add("a token with a line break", "job.list", token("a\r\nX-Evil: 1"), times=4)
    found.add("an empty list", "job.list", instead(Answer(200, [_JSON], b"{}")), times=3, tested=True)
    found.add("a list with null", "job.list", instead(Answer(200, [_JSON], b'{"operations":[null,1,"x",{}]}')), times=4)


def _offsets(found: _Catalogue) -> None:
    """What the service claims to hold of an upload (A9)."""
    found.add(
        "holds nothing",
        "upload.data",
        changed(lambda a: a.changed("x-goog-upload-size-received", "0").changed("x-goog-upload-status", "active")),
        times=3,
    )
    found.add(
        "holds more than there is",
        "upload.data",
        changed(
            lambda a: a.changed("x-goog-upload-size-received", str(10**12)).changed("x-goog-upload-status", "active")
        ),
        times=1,
    )
    found.add("holds a negative number", "upload.data", header("x-goog-upload-size-received", "-5"), times=2)
    found.add("final at once", "upload.start", header("x-goog-upload-status", "final"), times=1)
    found.add("no status", "upload.data", header("x-goog-upload-status", None), times=2, tested=True)
    found.add("no status", "upload.start", header("x-goog-upload-status", None), times=2)
    found.add("a status of its own", "upload.data", header("x-goog-upload-status", "thinking"), times=1)
    found.add(
        "granularity of 10^15", "upload.start", header("x-goog-upload-chunk-granularity", str(10**15)), times=ALWAYS
    )


def _times(found: _Catalogue) -> None:
    """Clocks (A7)."""
    for name, value in {
        "four days ahead": "Thu, 03 Dec 2099 22:00:00 GMT",
        "year 1": "Mon, 01 Jan 0001 00:00:00 GMT",
        "no time": "soon",
        "year 9999": "Fri, 31 Dec 9999 23:59:59 GMT",
    }.items():
        for route in ("job.list", "file.get"):
            found.add(f"date {name}", route, header("date", value), times=2, tested=name == "four days ahead")
    found.add(
        "a retry-after of a year", "job.list", instead(Answer(503, [("retry-after", "31536000x")], HTML)), times=2
    )
    for name, value in {"past": "1999-01-01T00:00:00Z", "not a time": "yesterday"}.items():
        found.add(f"createTime {name}", "job.list", _member("createTime", value), times=2)


def _bodies(found: _Catalogue) -> None:
    """JSON that is none, or hardly (A13)."""
    bodies: dict[str, bytes] = {
        "3,000 levels": b'{"a":' * 3000 + b"1" + b"}" * 3000,
        "10^6 levels": b"[" * 10**6,
        "half an object": b'{"operations":[{"name":"batches/',
        "bad UTF-8": b'{"name":"\xff\xfe"}',
        "NaN": b'{"name":NaN}',
        "a huge number": b'{"name":' + b"9" * 5000 + b"}",
        "an array": b"[]",
        "null": b"null",
        "a byte order mark": b"\xef\xbb\xbf{}",
        "UTF-16": '{"name":"x"}'.encode("utf-16"),
        "30 MB of members": b"{" + b'"m":1,' * 5_000_000 + b'"m":1}',
    }
    for name, data in bodies.items():
        deep = name == "3,000 levels"
        found.add(f"JSON: {name}", "job.list", instead(Answer(200, [_JSON], data)), times=4, tested=deep)
        if deep:
            found.add(f"JSON: {name}", "file.get", instead(Answer(200, [_JSON], data)), times=4, tested=True)


def _creates(found: _Catalogue) -> None:
    """All but the service's own refusal of a create is ambiguous, and ends in one job."""
    foreign = [(302, b""), (403, HTML), (404, DETAIL), (407, b""), (451, HTML), (502, HTML), (521, b"error")]
    for at, (status, content) in enumerate(foreign):
        for acted in (False, True) if at < 3 else (True,):
            found.add(
                f"{status}{', accepted' if acted else ''}",
                "create",
                instead(Answer(status, [], content), acted=acted),
                times=1,
                tested=acted and at in (1, 2, 4),
            )
    for name, play in {
        "200 with a page, accepted": instead(Answer(200, [_HTML], HTML), acted=True),
        "200 with another name, accepted": instead(Answer(200, [_JSON], b'{"name":"files/x"}'), acted=True),
        "connection ends, accepted": hang_up_acted,
        "connection ends": hang_up,
        "no answer": hang,
        "drips body, accepted": drip("body", 0.02, acted=True),
        "drips headers, accepted": drip("headers", 0.02, acted=True),
        "drips informational, accepted": drip("informational", 0.02, acted=True),
        "endless body": endless("body"),
        "endless header": endless("header"),
        "gzip": encoded("gzip"),
        "br": encoded("br"),
        "cut gzip": encoded("cut gzip"),
        "100 kB of headers": header("x-long", "y" * 100_000),
        "a length too large": changed(lambda a: a.changed("content-length", str(len(a.body) + 100))),
    }.items():
        found.add(
            name,
            "create",
            play,
            times=1,
            tested=name in ("drips headers, accepted", "gzip", "200 with a page, accepted"),
        )
    # The service says no, and has accepted: the job is found in the list before another create.
    found.add(
        "429 of the service, accepted",
        "create",
        instead(Answer(429, [_JSON], GOOGLE % (429, b"RESOURCE_EXHAUSTED")), acted=True),
        times=1,
        tested=True,
    )


def _stops(found: _Catalogue) -> None:
    """A stop is heeded within seconds, whatever is under way (A10)."""
    for route in USUAL:
        ends = frozenset({0, 75}) if route == "file.delete" else frozenset({75})
        found.add(
            "stopped while there is no answer",
            route,
            hang,
            mode="stop",
            ends=ends,
            tested=route in ("job.list", "file.delete"),
        )
        found.add(
            "stopped while a page is answered", route, instead(Answer(403, [_HTML], HTML)), mode="stop", ends=ends
        )
        found.add(
            "stopped while it drips",
            route,
            drip("headers", 0.02),
            mode="stop",
            ends=ends,
            tested=route == "results.get",
        )
    found.add("stopped while there is no answer", "create", hang, mode="stop")


_PARTS = (
    *(_foreign, _redirects, _pages, _slow, _endless, _encodings, _headers, _sizes, _addresses, _lists, _offsets),
    *(_times, _bodies, _creates, _stops),
)
KINDS = tuple(part.__name__.strip("_") for part in _PARTS)
