"""A manifest that is lost is made anew; one that was copied or put back goes on by a person's word."""

from __future__ import annotations

import shutil
from functools import partial
from typing import TYPE_CHECKING

import anyio
import msgspec
import pytest
from anyio.lowlevel import checkpoint

import packtrain
from packtrain import InputError, ManifestError, Options, OtherContent, Secret, State, serving
from tests.flow.place import Place, read_lines
from tests.flow.test_recovery import run_until
from tests.manifest.meddling import meddled

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from packtrain import Recovery, Statistics, Summary, Task

SMALL = Options(shard_requests=10)
LINES, SHARDS = 60, 6


async def complete(place: Place, source: Path, state: Path | None = None, out: Path | None = None) -> Summary:
    async with packtrain.open_client(state or place.state, service=place.service, options=SMALL) as client:
        with anyio.fail_after(100):
            return await client.run(source, model="m", out=out or place.out)


async def begin(place: Place, source: Path, enough: Callable[[Statistics], bool]) -> str:
    """Run until it stands so; returns the run's token."""
    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
        await run_until(client, enough, partial(client.run, source, model="m", out=place.out))
    (token,) = read_lines(place.state / "manifest.run")
    return str(token["run"])


async def recover(
    place: Place, source: Path, run: str, options: Options = SMALL, model: str = "m", task: Task = "generate"
) -> Recovery:
    return await packtrain.recover(
        source,
        run=run,
        model=model,
        task=task,
        out=place.out,
        state=place.state,
        service=place.service,
        options=options,
    )


async def expected(place: Place, source: Path) -> bytes:
    """The output of a run that nobody disturbed, at a service of its own."""
    async with serving(place.root / "calm" / "service") as origin:
        calm = Place(place.root / "calm", origin)
        await complete(calm, source)
        return calm.out.read_bytes()


def one_job_a_shard(place: Place) -> bool:
    tags = [entry["displayName"].split(".")[2] for entry in place.truth("batch_created")]
    return sorted(tags) == sorted(map(str, range(SHARDS)))


@pytest.mark.parametrize(
    "lost_when",
    [
        pytest.param(lambda s: s.jobs_created > 0, id="at the first job"),
        pytest.param(lambda s: s.count(State.CLOSED) >= 2, id="in the middle"),
        pytest.param(lambda s: s.count(State.CLOSED) == SHARDS, id="after the last job"),
    ],
)
async def test_lost_state_is_made_anew(place: Place, lost_when: Callable[[Statistics], bool]) -> None:
    """From the input and the list of jobs: no job is made twice, and the output is the same to the byte."""
    source = place.requests(LINES)
    run = await begin(place, source, lost_when)
    shutil.rmtree(place.state)
    place.out.unlink(missing_ok=True)
    found = await recover(place, source, run)
    assert (found.shards, found.whole) == (SHARDS, True)
    assert found.jobs == found.with_job > 0
    summary = await complete(place, source)
    assert (summary.run, summary.answered) == (run, LINES)
    assert one_job_a_shard(place)
    assert place.out.read_bytes() == await expected(place, source)


async def test_a_manifest_that_comes_back_meanwhile_is_not_replaced(place: Place) -> None:
    """Put back by a person while the service was being asked: it knows more than the list does."""
    source = place.requests(LINES)
    run = await begin(place, source, lambda s: s.jobs_created > 0)
    manifest, aside = place.state / "manifest.db", place.root / "aside"
    manifest.rename(aside)

    async def put_back() -> None:
        while not (place.state / "recovering.db").exists():
            await checkpoint()
        aside.rename(manifest)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(put_back)
        with pytest.raises(ManifestError, match="is there, so there is nothing to recover"):
            await recover(place, source, run)
    assert (await complete(place, source)).answered == LINES


async def test_damaged_manifest_is_made_anew(place: Place) -> None:
    """Moved aside, its place is taken by the new one; the old one stays, and so does what it says of its runs."""
    source = place.requests(LINES)
    run = await begin(place, source, lambda s: s.jobs_created > 2)
    with pytest.raises(ManifestError, match="is there, so there is nothing to recover"):
        await recover(place, source, run)
    (place.state / "manifest.db").rename(place.state / "manifest.db.damaged")
    with pytest.raises(ManifestError, match="is gone"):
        await complete(place, source)
    await recover(place, source, run)
    await complete(place, source)
    assert one_job_a_shard(place)
    assert not list(place.state.glob("recovering*"))


async def test_other_lines_than_at_first_are_refused(place: Place) -> None:
    """Nothing is left of the attempt, so that it can be made again as it should be."""
    source = place.requests(LINES)
    run = await begin(place, source, lambda s: s.jobs_created > 2)
    shutil.rmtree(place.state)
    for wrong, options in ((source, Options(shard_requests=7)), (place.requests(LINES - 1, "b.jsonl"), Options())):
        with pytest.raises(InputError, match=r"made of other lines than these|is shorter than at first"):
            await recover(place, wrong, run, options)
        assert not (place.state / "manifest.db").exists()
    await recover(place, source, run)
    await complete(place, source)
    assert one_job_a_shard(place)


async def test_another_model_or_task_is_refused_by_its_name(place: Place) -> None:
    """By what stands in manifest.run, and without that by the jobs; the record of the right one stays as it is."""
    source = place.requests(LINES)
    run = await begin(place, source, lambda s: s.jobs_created > 2)
    (place.state / "manifest.db").unlink()
    noted = (place.state / "manifest.run").read_bytes()
    with pytest.raises(InputError, match=r"model m and task generate, .* not with model other and task generate"):
        await recover(place, source, run, model="other")
    with pytest.raises(InputError, match=r"task generate, .* not with model m and task embed"):
        await recover(place, source, run, task="embed")
    assert (place.state / "manifest.run").read_bytes() == noted
    (place.state / "manifest.run").unlink()
    with pytest.raises(InputError, match="is for model m, not for other"):
        await recover(place, source, run, model="other")
    assert not list(place.state.glob("recovering*"))
    await recover(place, source, run, model="models/m")


async def test_nothing_to_recover_is_said(place: Place) -> None:
    """A run of which the service has no job, an id that is none, and an output that is there."""
    source = place.requests(LINES)
    run = await begin(place, source, lambda s: s.jobs_created > 0)
    shutil.rmtree(place.state)
    with pytest.raises(ManifestError, match="lists no job of run"):
        await recover(place, source, "a" * 26)
    with pytest.raises(InputError, match="is no token of a run"):
        await recover(place, source, "../../etc")
    place.out.write_text("answers")
    with pytest.raises(InputError, match="exists already"):
        await recover(place, source, run)
    assert not (place.state / "manifest.db").exists()


async def test_input_beyond_the_spool_is_read_by_the_run(place: Place) -> None:
    """A recovery needs no more disk than the run; shards that it did not come to are in doubt as well."""
    source = place.requests(LINES)
    run = await begin(place, source, lambda s: s.count(State.CLOSED) == SHARDS)
    shutil.rmtree(place.state)
    place.out.unlink(missing_ok=True)
    found = await recover(place, source, run, Options(shard_requests=10, spool_bytes=1))
    assert (found.shards, found.whole) == (1, False)
    await complete(place, source)
    assert one_job_a_shard(place)


@pytest.mark.parametrize("spool_bytes", [1 << 40, 1])
async def test_an_input_cut_at_a_shard_boundary_is_refused(place: Place, spool_bytes: int) -> None:
    """A16: a job of a shard beyond the last one is nobody's otherwise. Where the spool had no room for all of the input
    the run finds it out, before anything is published."""
    source = place.requests(LINES)
    run = await begin(place, source, lambda s: s.count(State.CLOSED) == SHARDS)
    shutil.rmtree(place.state)
    place.out.unlink(missing_ok=True)
    cut, options = place.requests(LINES - 10, "cut.jsonl"), Options(shard_requests=10, spool_bytes=spool_bytes)
    with pytest.raises(OtherContent, match=r"a job of shard 5 .* gives 5 shards"):
        await recover(place, cut, run, options)
        await complete(place, cut)
    assert not place.out.exists()
    if (manifest := place.state / "manifest.db").exists():
        manifest.unlink()
    await recover(place, source, run)
    await complete(place, source)
    assert one_job_a_shard(place)
    assert place.out.read_bytes() == await expected(place, source)


async def test_settings_that_no_job_shows_are_compared_with_the_record(place: Place) -> None:
    """A16: --join and the kind of output are in no tag, but in manifest.run; no manifest is made."""
    source = place.requests(LINES)
    run = await begin(place, source, lambda s: s.jobs_created > 2)
    (place.state / "manifest.db").unlink()
    for out, join in ((place.out, True), (f"{place.root / 'parts'}/", False)):
        with pytest.raises(OtherContent, match="was started with other settings"):
            await packtrain.recover(
                source,
                run=run,
                model="models/m",
                out=out,
                state=place.state,
                service=place.service,
                join=join,
                options=SMALL,
            )
    assert not list(place.state.glob("recovering*"))
    await recover(place, source, run, model="models/m")


async def test_a_recovered_run_goes_on_with_another_key_of_its_account(place: Place) -> None:
    """A19: its jobs are known by their tags alone; a key that lists none of them is refused."""
    source = place.requests(LINES)
    run = await begin(place, source, lambda s: s.count(State.CLOSED) == SHARDS)
    shutil.rmtree(place.state)
    place.out.unlink(missing_ok=True)
    await recover(place, source, run)
    key = Secret("another-key-sentinel")
    async with serving(place.root / "elsewhere") as origin:
        other = msgspec.structs.replace(place.service_at(origin), key=key)
        async with packtrain.open_client(place.state, service=other, options=SMALL) as client:
            with pytest.raises(ManifestError, match="does not show its jobs"):
                await client.run(source, model="m", out=place.out)
    own = msgspec.structs.replace(place.service, key=key)
    async with packtrain.open_client(place.state, service=own, options=SMALL) as client:
        assert (await client.run(source, model="m", out=place.out)).answered == LINES
    assert one_job_a_shard(place)


async def test_copy_goes_on_by_a_persons_word(place: Place) -> None:
    """Taken before anything was sent; what the original did in the meantime is found at the service."""
    source, copy = place.requests(LINES), place.root / "copy"
    await begin(place, source, lambda s: s.shards == SHARDS)
    shutil.copytree(place.state, copy)
    await complete(place, source)
    with pytest.raises(ManifestError, match="put back"):
        await complete(place, source, copy)
    await packtrain.adopt(copy)
    answers = place.out.read_bytes()
    with pytest.raises(InputError, match="exists already"):
        await complete(place, source, copy)
    place.out.unlink()
    await complete(place, source, copy)
    assert one_job_a_shard(place)
    assert place.out.read_bytes() == answers


async def test_state_put_back_goes_on_by_a_persons_word(place: Place) -> None:
    """Taken when one shard was cut; the others are cut again, and their jobs found."""
    source = place.requests(LINES)
    options = Options(shard_requests=10, spool_bytes=1)
    async with packtrain.open_client(place.state, service=place.service, options=options) as client:
        await run_until(client, lambda s: s.shards == 1, partial(client.submit, source, model="m"))
    shutil.copytree(place.state, place.root / "backup")
    await complete(place, source)
    shutil.rmtree(place.state)
    shutil.copytree(place.root / "backup", place.state)
    place.out.unlink()
    with pytest.raises(ManifestError, match="was copied here, or put back"):
        await complete(place, source)
    await packtrain.adopt(place.state)
    await complete(place, source)
    assert one_job_a_shard(place)
    assert place.out.read_bytes() == await expected(place, source)


async def test_manifest_put_back_without_its_shards_is_made_anew(place: Place) -> None:
    """Those that it means to send are gone from the disk; they are cut again from the input."""
    source = place.requests(LINES)
    run = await begin(place, source, lambda s: s.shards == SHARDS)
    manifest = place.state / "manifest.db"
    older = await anyio.Path(manifest).read_bytes()
    await complete(place, source)
    await anyio.Path(manifest).write_bytes(older)
    place.out.unlink()
    with pytest.raises(ManifestError, match="an older copy was put back"):
        await complete(place, source)
    with pytest.raises(ManifestError, match="is gone"):
        await packtrain.adopt(place.state)
    manifest.unlink()
    await recover(place, source, run)
    await complete(place, source)
    assert one_job_a_shard(place)


async def test_no_create_of_a_recovered_run_goes_unseen(place: Place) -> None:
    """Also a shard that nobody put in doubt, as one made of failed lines, is looked for before it is sent."""
    source, copy = place.requests(LINES), place.root / "copy"
    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
        await client.submit(source, model="m")
    shutil.copytree(place.state, copy)
    await complete(place, source)
    with meddled(copy / "manifest.db") as connection:
        connection.execute("UPDATE meta SET identity = NULL")
        connection.execute("UPDATE runs SET recovered = 1")
    place.out.unlink()
    await complete(place, source, copy)
    assert one_job_a_shard(place)


async def test_shard_that_was_never_sent_is_sent_after_the_doubt(place: Place) -> None:
    """Its first name is given up, as after a lost answer: whoever still meant to use it comes too late."""
    source = place.requests(LINES)
    run = await begin(place, source, lambda s: s.jobs_created == 1)
    shutil.rmtree(place.state)
    known = {entry["displayName"] for entry in place.truth("batch_created")}
    found = await recover(place, source, run)
    await complete(place, source)
    later = {entry["displayName"] for entry in place.truth("batch_created")} - known
    assert len(later) >= SHARDS - found.with_job
    assert all(tag.split(".")[4] in ("2", "3") for tag in later)
    assert one_job_a_shard(place)


def copy_of(state: Path) -> Path:
    return state.with_name("older")


def put_back(state: Path) -> None:
    """As cp -a and tar --overwrite do: each file is written over, so that its inode stays."""
    for path in [path for path in state.rglob("*") if path.is_file()]:
        if not (copy_of(state) / path.relative_to(state)).exists():
            path.unlink()
    for old in [path for path in copy_of(state).rglob("*") if path.is_file()]:
        target = state / old.relative_to(copy_of(state))
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("r+b" if target.exists() else "wb") as file:
            file.write(old.read_bytes())
            file.truncate()


@pytest.mark.parametrize("taken_at", [0, 1, 3])
async def test_a_directory_put_back_in_place_is_known_by_the_jobs_that_it_has_forgotten(
    place: Place, taken_at: int
) -> None:
    """Inode and witness came back with it. It is refused before a create; once adopted it makes no job twice."""
    source = place.requests(LINES)
    await begin(place, source, lambda s: s.jobs_created >= taken_at)
    shutil.copytree(place.state, copy_of(place.state))
    before = (await complete(place, source)).jobs_created
    answers = place.out.read_bytes()
    put_back(place.state)
    place.out.unlink()
    with pytest.raises(ManifestError, match="does not know of"):
        await complete(place, source)
    assert (before, len(place.truth("batch_created"))) == (SHARDS, SHARDS)
    await packtrain.adopt(place.state)
    await complete(place, source)
    assert one_job_a_shard(place)
    assert place.out.read_bytes() == answers


async def test_a_run_that_goes_on_reads_the_list_once_before_its_creates(place: Place) -> None:
    """A job under a tag that the manifest knows is no reason to stop."""
    source = place.requests(LINES)
    for _ in range(3):
        await begin(place, source, lambda s: s.jobs_created > 0)
    assert (await complete(place, source)).jobs_created == SHARDS
    assert one_job_a_shard(place)
