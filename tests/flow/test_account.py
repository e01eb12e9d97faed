"""Key and address may change; account and service must not, for others do not show the jobs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio
import pytest
from msgspec.structs import replace

import packtrain
from packtrain import Local, ManifestError, Options, Secret, State, serving
from packtrain.testing import armed
from packtrain.testing.proxy import open_proxy
from tests.flow.test_recovery import run_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from packtrain import Service, Statistics, Summary
    from tests.flow.place import Place

FIRST, SECOND = "the-first-key-sentinel", "the-second-key-sentinel"


async def begin(place: Place, enough: Callable[[Statistics], bool]) -> Path:
    source = place.requests(20)
    service = replace(place.service, key=Secret(FIRST))
    async with packtrain.open_client(place.state, service=service, options=Options(shard_requests=10)) as client:
        await run_until(client, enough, partial(client.run, source, model="m", out=place.out))
    return source


async def go_on(place: Place, source: Path, service: Service) -> Summary:
    service = replace(service, key=Secret(SECOND))
    async with packtrain.open_client(place.state, service=service, options=Options(shard_requests=10)) as client:
        with anyio.fail_after(100):
            return await client.run(source, model="m", out=place.out)


async def test_a_new_key_of_the_same_account_goes_on(place: Place) -> None:
    """It sees the jobs of the old one. It is asked for once; then it is the known one."""
    source = await begin(place, lambda s: s.count(State.SUBMITTED, State.CLOSED) == 2)
    for _ in range(2):
        assert (await go_on(place, source, place.service)).answered == 20


@pytest.mark.parametrize("reached", [State.UPLOADED, State.SUBMITTED, State.CLOSED])
async def test_a_key_of_another_account_is_refused(place: Place, reached: State) -> None:
    """Nothing is made there, and the first key goes on."""
    source = await begin(place, lambda s: s.count(reached, State.CLOSED) > 0)
    async with serving(place.root / "elsewhere") as origin:
        with pytest.raises(ManifestError, match="does not show its jobs"):
            await go_on(place, source, place.service_at(origin))
    assert "batch_created" not in (place.root / "elsewhere" / "truth.jsonl").read_text()
    async with packtrain.open_client(place.state, service=replace(place.service, key=Secret(FIRST))):
        pass


async def run_at(place: Place, source: Path, service: Service | Local) -> Summary:
    async with packtrain.open_client(place.state, service=service, options=Options(shard_requests=10)) as client:
        with anyio.fail_after(100):
            return await client.run(source, model="m", out=place.out)


@pytest.mark.parametrize("key", [None, Secret(FIRST)])
async def test_with_the_same_key_another_service_is_refused(place: Place, key: Secret | None) -> None:
    """A create was under way at the first one; nothing is made at the second one, and the first one goes on."""
    source = place.requests(20)
    first = replace(place.service, key=key)
    with armed("create.post.after=hang@1"), anyio.move_on_after(60) as begun:
        async with packtrain.open_client(place.state, service=first, options=Options(shard_requests=10)) as client:
            await run_until(client, lambda _: bool(place.truth("batch_created")), partial(run_in, client, place))
    assert not begun.cancelled_caught
    async with serving(place.root / "elsewhere") as origin:
        with pytest.raises(ManifestError, match=f"at {place.origin}, and the one at {origin} does not show its jobs"):
            await run_at(place, source, replace(place.service_at(origin), key=key))
        with pytest.raises(ManifestError, match=f"and the one at {place.state}/service does not show its jobs"):
            await run_at(place, source, Local())
    assert "batch_created" not in (place.root / "elsewhere" / "truth.jsonl").read_text()
    assert (await run_at(place, source, first)).answered == 20
    assert len(place.truth("batch_created")) == 2


async def run_in(client: packtrain.Client, place: Place) -> None:
    await client.run(place.root / "in.jsonl", model="m", out=place.out)


async def test_the_same_service_at_another_address_goes_on(place: Place) -> None:
    """It shows what was made, and its new address is the known one from then on."""
    source = await begin(place, lambda s: s.count(State.SUBMITTED, State.CLOSED) > 0)
    async with open_proxy(place.origin) as proxy:
        assert (await go_on(place, source, place.service_at(proxy.origin))).answered == 20
    assert len(place.truth("batch_created")) == 2


async def test_before_anything_was_made_any_key_will_do(place: Place) -> None:
    """A key that was mistyped at the first start binds nobody."""
    async with packtrain.open_client(place.state, service=replace(place.service, key=Secret(FIRST))):
        pass
    async with serving(place.root / "elsewhere") as origin:
        assert (await go_on(place, place.requests(20), place.service_at(origin))).answered == 20


async def test_a_person_may_say_that_the_account_is_the_same(place: Place) -> None:
    """As when all jobs are old, and gone; what has none is looked for at the service before it is sent."""
    source = await begin(place, lambda s: s.count(State.CLOSED) == 2)
    async with serving(place.root / "elsewhere") as origin:
        await packtrain.adopt(place.state)
        assert (await go_on(place, source, place.service_at(origin))).answered == 20
    assert (place.root / "elsewhere" / "truth.jsonl").read_text() == ""


async def test_no_key_stands_in_the_state_directory(place: Place) -> None:
    """A salted digest of it does."""
    await begin(place, lambda s: s.count(State.CLOSED) == 2)
    kept = b"".join(path.read_bytes() for path in place.state.rglob("*") if path.is_file())
    assert FIRST.encode() not in kept
