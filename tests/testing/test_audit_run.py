"""The audit of a run finds each kind of damage, and nothing in an intact run."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import packtrain
from packtrain import Options, serving
from packtrain._rules.lifecycle import TABLE
from packtrain.testing import Drop, FaultPlan, Results
from packtrain.testing.audit.manifest import read_records
from packtrain.testing.audit.run import audit_run
from packtrain.testing.audit.steps import STEPS
from tests.flow.place import Place, request_line, write_lines

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: An answer is lost, and one row never comes back.
FAULTS = FaultPlan(
    rules=(
        Drop(route="batches.create", calls=(1,), acted=True),
        Results(route="files.download", how="missing"),
    )
)


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with answered, failed and rejected lines, and its service directory."""
    root = tmp_path_factory.mktemp("lived")
    anyio.run(_live, root)
    return root


async def _live(root: Path) -> None:
    async with serving(root / "service", faults=FAULTS) as origin:
        place = Place(root, origin)
        source = write_lines(root / "in.jsonl", map(request_line, range(12)))
        lines = [line.rstrip() for line in source.read_text().splitlines()]
        source.write_text("\ufeff" + "\r\n".join([*lines[:5], "", "nonsense", *lines[5:]]) + "\nrubbish")
        options = Options(shard_requests=5, retries=0)
        async with packtrain.open_client(
            root / "out.jsonl.packtrain", service=place.service, options=options
        ) as client:
            await client.run(source, model="m", out=root / "out.jsonl")


@pytest.fixture
def root(lived: Path, tmp_path: Path) -> Path:
    """A copy to damage, with file times."""
    copy = tmp_path / "lived"
    shutil.copytree(lived, copy)
    return copy


def findings(root: Path, exit_code: int = 1) -> list[str]:
    return audit_run(
        inputs=[root / "in.jsonl"],
        out=root / "out.jsonl",
        state=root / "out.jsonl.packtrain",
        service=root / "service",
        exit_code=exit_code,
    )


def test_a_sound_run_has_no_findings(root: Path) -> None:
    """A byte order mark, blank and bad lines, a lost response and missing rows are no findings."""
    assert findings(root) == []
    assert (root / "out.jsonl.failed.jsonl").stat().st_size
    assert (root / "out.jsonl.rejected.jsonl").stat().st_size


def test_an_audit_changes_nothing(root: Path) -> None:
    """Neither files nor their times."""

    def picture() -> dict[Path, tuple[int, int]]:
        return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in root.rglob("*")}

    before = picture()
    findings(root)
    assert picture() == before


def _rewrite(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    """Keeps the file's time."""
    found = path.stat()
    path.write_text("".join(change(path.read_text().splitlines(keepends=True))))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def _ask(root: Path, sql: str) -> None:
    with closing(sqlite3.connect(root / "out.jsonl.packtrain" / "manifest.db")) as database, database:
        assert database.execute(sql).rowcount > 0


def _retell(root: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    path = root / "service" / "truth.jsonl"
    entries = change([json.loads(line) for line in path.read_text().splitlines()])
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def _of(entries: list[dict[str, Any]], what: str) -> dict[str, Any]:
    return next(entry for entry in entries if entry["what"] == what)


def _first_create(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """The create of shard 0; creates may have any order."""
    return next(entry for entry in entries if ".0.0.1." in entry.get("displayName", "") and "created" in entry["what"])


def lose_an_answer(root: Path) -> None:
    _rewrite(root / "out.jsonl", lambda lines: lines[1:])


def answer_twice(root: Path) -> None:
    _rewrite(root / "out.jsonl", lambda lines: [*lines, lines[0]])


def change_the_order(root: Path) -> None:
    _rewrite(root / "out.jsonl", lambda lines: [lines[1], lines[0], *lines[2:]])


def put_an_error_among_the_answers(root: Path) -> None:
    _rewrite(root / "out.jsonl", lambda lines: ['{"key": "key-0", "error": {"code": 3}}\n', *lines[1:]])


def forget_a_failure(root: Path) -> None:
    _rewrite(root / "out.jsonl.failed.jsonl", lambda lines: lines[1:])


def reject_twice(root: Path) -> None:
    _rewrite(root / "out.jsonl.rejected.jsonl", lambda lines: [*lines, lines[0]])


def reject_in_silence(root: Path) -> None:
    _rewrite(root / "out.jsonl.rejected.jsonl", lambda lines: lines[1:])


def two_live_jobs(root: Path) -> None:
    def change(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        made = _first_create(entries)
        return [*entries, made | {"name": "batches/twin", "at": made["at"] + 1e-6}]

    _retell(root, change)


def two_adopted(root: Path) -> None:
    _ask(
        root,
        "INSERT INTO events (run, shard, generation, at, attempt, event, before, after, detail) SELECT run, shard, "
        "generation, at, attempt, event, before, after, json_object('job', 'batches/twin') FROM events "
        "WHERE event = 'JobAdopted' AND shard = 0",
    )


def intend_afterwards(root: Path) -> None:
    _ask(root, "UPDATE events SET at = at + 1000 WHERE event = 'CreateIntended'")


def forget_an_intent(root: Path) -> None:
    _ask(root, "DELETE FROM events WHERE event = 'CreateIntended' AND shard = 1")


def create_more_than_intended(root: Path) -> None:
    def change(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [*entries, _first_create(entries) | {"name": "batches/late", "at": 1e10}]

    _retell(root, change)


def create_again_after_revocation(root: Path) -> None:
    """The first create was considered refused, but had created a job."""
    create_more_than_intended(root)
    _ask(
        root,
        "INSERT INTO events (run, shard, generation, at, attempt, event, before, after, detail) SELECT run, shard, "
        "generation, at, attempt, event, before, after, detail FROM events WHERE event = 'CreateIntended'",
    )


def create_in_a_second_attempt(root: Path, decision: str = "AttemptAbandoned") -> None:
    """Both have intents: the first job is adopted, the second one reported as a duplicate."""

    def change(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        made = _first_create(entries)
        tag = made["displayName"].replace(".0.0.1.", ".0.0.2.")
        detail = json.dumps({"tag": tag})
        for at, attempt, event, text in ((9e9, 1, decision, ""), (9e9, 2, "CreateIntended", detail)):
            _ask(
                root,
                "INSERT INTO events (run, shard, generation, at, attempt, event, before, after, detail) "  # noqa: S608
                f"VALUES ('main', 0, 0, {at}, {attempt}, '{event}', '', '', '{text}')",  # all of it is ours
            )
        _ask(root, "INSERT INTO duplicate_jobs VALUES ('main', 'batches/again', 0, 0, 2, 'ended', 0)")
        return [*entries, made | {"name": "batches/again", "displayName": tag, "at": 1e10}]

    _retell(root, change)


def change_a_file_at_the_service(root: Path) -> None:
    def change(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        _of(entries, "file_finalised")["sha256"] = "00" * 32
        return entries

    _retell(root, change)


def create_with_other_content(root: Path) -> None:
    def change(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        made = _first_create(entries)
        made["displayName"] = made["displayName"].rsplit(".", 1)[0] + ".4"
        return entries

    _retell(root, change)


def create_without_a_shard(root: Path) -> None:
    def change(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        made = _first_create(entries)
        made["displayName"] = made["displayName"].replace(".0.0.1.", ".7.0.1.")
        return entries

    _retell(root, change)


def tear_the_output(root: Path) -> None:
    path = root / "out.jsonl"
    path.write_bytes(path.read_bytes()[:-5])


def change_a_byte_of_the_output(root: Path) -> None:
    path = root / "out.jsonl"
    path.write_bytes(path.read_bytes().replace(b"number 3", b"number 4"))


def lose_the_output(root: Path) -> None:
    (root / "out.jsonl").unlink()


def change_a_shard(root: Path) -> None:
    (shards,) = (root / "out.jsonl.packtrain" / "shards").iterdir()
    (shards / "00000-0.jsonl").write_bytes(b"other\n")


def leave_a_draft(root: Path) -> None:
    (root / "out.jsonl.tmp").touch()


def take_an_undefined_step(root: Path) -> None:
    _ask(root, "UPDATE events SET event = 'Revoked' WHERE event = 'FileReady'")


def change_the_state(root: Path) -> None:
    _ask(root, "UPDATE jobs SET state = 'landed' WHERE shard = 1")


def go_back_an_attempt(root: Path) -> None:
    _ask(root, "UPDATE events SET attempt = 2 WHERE event = 'FileReady'")


def publish_a_quarantined_run(root: Path) -> None:
    _ask(root, "UPDATE jobs SET state = 'quarantined' WHERE shard = 1")


def never_publish(root: Path) -> None:
    _ask(root, "UPDATE runs SET sha256 = NULL")


def touch_the_input(root: Path) -> None:
    (root / "in.jsonl").touch()


def change_the_input(root: Path) -> None:
    _rewrite(root / "in.jsonl", lambda lines: [line.replace("number 3", "number 4") for line in lines])


def create_after_the_end(root: Path) -> None:
    os.utime(root / "out.jsonl", (0, 0))


def drop_a_job_from_the_report(root: Path) -> None:
    def change(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        made = _first_create(entries)
        ended = next(entry for entry in entries if entry["what"] == "batch_finished" and entry["name"] == made["name"])
        return [*entries, made | {"name": "batches/twin", "at": ended["at"] + 1}]

    _retell(root, change)


def adopt_an_unknown_job(root: Path) -> None:
    _ask(root, "UPDATE events SET detail = json_object('job', 'batches/none') WHERE event = 'JobAdopted' AND shard = 1")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lose_an_answer, "I1 1 lines are neither"),
        (answer_twice, "I1 1 answers or failures too many"),
        (change_the_order, "I1 the answers are not in the order"),
        (put_an_error_among_the_answers, "is not an answer"),
        (forget_a_failure, "I1 1 lines are neither"),
        (reject_twice, "listed as rejected more than once"),
        (reject_in_silence, "not listed as rejected"),
        (two_live_jobs, "I2 "),
        (two_adopted, "I2 shard 0.0: adopted"),
        (intend_afterwards, "I4 "),
        (forget_an_intent, "I4 "),
        (create_more_than_intended, "I5 2 jobs were created"),
        (create_again_after_revocation, "I5 2 jobs were created"),
        (create_in_a_second_attempt, "both created for shard 0.0"),
        (change_a_file_at_the_service, "differs from the sealed shard"),
        (create_with_other_content, "I6 "),
        (create_without_a_shard, "I6 "),
        (tear_the_output, "ends in the middle of a line"),
        (change_a_byte_of_the_output, "are not those that were verified"),
        (lose_the_output, "I7 "),
        (change_a_shard, "differs from the sealed shard"),
        (leave_a_draft, "I16 "),
        (take_an_undefined_step, "I8 "),
        (change_the_state, "its history ends as closed"),
        (go_back_an_attempt, "back from attempt 2"),
        (publish_a_quarantined_run, "I13 published"),
        (touch_the_input, "I15 "),
        (change_the_input, "was not sealed from the present lines"),
        (create_after_the_end, "I17 "),
        (drop_a_job_from_the_report, "neither adopted nor reported"),
        (adopt_an_unknown_job, "adopted, but never created"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_damage_is_found(root: Path, damage: Callable[[Path], None], words: str) -> None:
    """Lost, changed, duplicated and left-over data have a finding each."""
    damage(root)
    assert any(words in finding for finding in findings(root)), findings(root)


def test_second_job_by_decision_is_no_duplicate(root: Path) -> None:
    """After packtrain resolve --retry."""
    create_in_a_second_attempt(root, "RetryDecided")
    assert not any(finding.startswith(("I2", "I4", "I5", "I18")) for finding in findings(root))


def test_a_second_job_for_one_that_never_started_is_none_too_many(root: Path) -> None:
    """The service ended the first one before it ran, so the create was sent again with the same file."""
    create_again_after_revocation(root)
    _ask(
        root,
        "INSERT INTO events (run, shard, generation, at, attempt, event, before, after, detail) SELECT run, shard, "
        "generation, at, attempt, 'JobNeverStarted', before, after, '' FROM events WHERE event = 'CreateIntended'",
    )
    assert not any(finding.startswith("I5") for finding in findings(root))


def test_a_success_without_an_output_is_found(root: Path) -> None:
    """An exit code of 0 requires one."""
    never_publish(root)
    assert findings(root, exit_code=1) == []
    assert findings(root, exit_code=0) == ["I13 exit code 0, but nothing is published"]


def test_parts_compressed_input_and_later_generations_are_read(tmp_path: Path) -> None:
    """As a run reads and writes them; missing rows are requested again."""
    faults = FaultPlan(rules=(Results(route="files.download", how="missing", times=1),))

    async def live() -> None:
        async with serving(tmp_path / "service", faults=faults) as origin:
            place = Place(tmp_path, origin)
            plain = place.requests(12)
            (tmp_path / "in.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
            async with packtrain.open_client(
                place.state, service=place.service, options=Options(shard_requests=5)
            ) as client:
                await client.run(tmp_path / "in.jsonl.gz", model="m", out=f"{tmp_path / 'parts'}/")

    def look() -> list[str]:
        return audit_run(
            inputs=[tmp_path / "in.jsonl.gz"],
            out=tmp_path / "parts",
            state=tmp_path / "state",
            service=tmp_path / "service",
            exit_code=0,
        )

    anyio.run(live)
    assert look() == []
    assert {place[1] for place in read_records(tmp_path / "state", "main").shards} == {0, 1}
    (tmp_path / "parts" / "part-00001.jsonl").unlink()
    assert any(finding.startswith("I7") for finding in look())


def test_both_tables_of_steps_agree(root: Path) -> None:
    """The table exists twice, so that a change of one copy is noticed."""
    table = {kind.__name__: (set(allowed), after or "") for kind, (allowed, after) in TABLE.items()}
    assert {name: (set(allowed.split()), after) for name, (allowed, after) in STEPS.items()} == table


def test_the_findings_are_printed(root: Path) -> None:
    """One line each; the exit code is 1 if there are any."""
    command = [sys.executable, "-m", "packtrain.testing.audit", "--input", str(root / "in.jsonl")]
    command += ["--out", str(root / "out.jsonl"), "--service", str(root / "service")]
    sound = subprocess.run(command, capture_output=True, text=True)
    assert (sound.returncode, sound.stdout) == (0, ""), sound.stderr
    lose_an_answer(root)
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 1
    assert "I1 1 lines are neither answered nor failed" in process.stdout
