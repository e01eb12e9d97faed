"""The bugs: where each is sown, in place of what, and which tests must catch it."""

from __future__ import annotations

from msgspec import Struct

CLIENT = "src/packtrain/"
CRASH = "tests/crash/test_failpoints.py::test_a_run_killed_at_any_point_ends_like_one_that_was_left_alone"

#: Long only when it finds nothing.
SCHEDULES = "tests/model/test_simulator.py::test_no_schedule_makes_a_second_job"


class Mutant(Struct, frozen=True):
    """``old`` stands once in ``file``, a path below the package; ``tests`` are a pytest's arguments."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTANTS = (
    # What is asked of the service.
    Mutant(
        "the list is asked for without pageSize",
        "_wire/gemini/batches.py",
        'query = [("pageSize", str(PAGE_SIZE))]',
        "query: list[tuple[str, str]] = []",
        ("tests/wire/test_gemini_batches.py::test_a_list_always_names_its_page_size",),
    ),
    Mutant(
        "a create is tried again, as idempotent calls are",
        "_providers/gemini.py",
        "reply = self._timed(await self._transport.send(call, once=True))",
        'reply = await self._idempotent("create of a row", call)',
        ("tests/flow/test_creates.py",),
    ),
    Mutant(
        "a proxy is used for this machine",
        "_providers/service.py",
        'return self.proxy if parts.scheme == "https" and not is_loopback(parts.hostname or "") else None',
        'return self.proxy if parts.scheme == "https" else None',
        ("tests/cli/test_proxies.py::test_there_is_no_proxy_to_this_machine_and_none_for_plain_http",),
    ),
    Mutant(
        "a proxy that gives no tunnel counts as a call that was sent",
        "_io/transport.py",
        "    aiohttp.ClientHttpProxyError,\n)",
        ")",
        ("tests/cli/test_proxies.py::test_a_proxy_that_gives_no_tunnel_is_named_and_nothing_was_sent",),
    ),
    Mutant(
        "the current directory says where the key goes",
        "cli/settings.py",
        'return key.replace("_", "-") in _GUARDED and value not in _HARMLESS',
        "return False",
        ("tests/cli/test_settings.py::test_the_current_directory_does_not_say_where_the_key_goes",),
    ),
    Mutant(
        "the store of the local service goes before its runs are published",
        "_client.py",
        "if runs and all(run.merged and not run.duplicates_live for run in runs):",
        "if runs:",
        ("tests/cli/test_starts.py::test_the_store_of_the_local_service_goes_with_success",),
    ),
    Mutant(
        "redirects are followed",
        "_io/transport.py",
        "allow_redirects=False",
        "allow_redirects=True",
        ("tests/io/test_transport.py",),
    ),
    Mutant(
        "the key goes to the address of an upload session",
        "_io/transport.py",
        """        headers = dict(call.headers)
        if call.target.startswith("/"):
            headers |= {name: secret.reveal() for name, secret in self._credentials.items()}
""",
        """        headers = dict(call.headers)
        headers |= {name: secret.reveal() for name, secret in self._credentials.items()}
        if call.target.startswith("/"):
""",
        ("tests/io/test_transport.py",),
    ),
    Mutant(
        "an upload session may lie anywhere",
        "_io/transport.py",
        "if not same_origin(url, origin):",
        "if not url:",
        ("tests/io/test_transport.py",),
    ),
    Mutant(
        "a connection that was lost under a create is closed gently",
        "_io/transport.py",
        'made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))',
        'made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))',
        ("tests/io/test_transport.py",),
    ),
    # Creates, and what becomes of those without an answer.
    Mutant(
        "the intent is recorded after the create",
        "_flow/submitter.py",
        """            row = await self._ctx.record(row, CreateIntended(tag=tag, intent_at=self._ctx.clock.now()))
            return await self._post(row, tag, before, requests)
""",
        """            run, now = self._ctx.run, self._ctx.clock.now
            job = await self._ctx.provider.create(model=run.model, task=run.task, tag=tag, file=row.file or "")
            row = await self._ctx.record(row, CreateIntended(tag=tag, intent_at=now()))
            return await self._ctx.record(row, JobAdopted(job=job.name, submitted_at=now()))
""",
        ("tests/flow/test_creates.py",),
    ),
    Mutant(
        "a create that a restart interrupted is sent again",
        "_flow/submitter.py",
        'return await self._ambiguous(row, "the program stopped between the intent and the answer")',
        'return await self._post(row, row.tag or "", None, None)',
        ("tests/flow/test_recovery.py",),
    ),
    Mutant(
        "a full list without further pages is complete",
        "_flow/job_list.py",
        "if not able.cursor and len(page.jobs) >= able.page_size:",
        "if not able.cursor and len(page.jobs) > able.page_size:",
        ("tests/flow/test_job_list.py",),
    ),
    Mutant(
        "a job without a tag is not ours",
        "_flow/remote_names.py",
        'job, display_name=job.display_name or self._tags.get(naming.plain_file(job.input_file), "")',
        "job, display_name=job.display_name",
        ("tests/providers/test_names.py",),
    ),
    Mutant(
        "an id that the service gave is forgotten",
        "_flow/uploader.py",
        "            self.row = await self._ctx.record(self.row, FileNamed(file=file.name))",
        "            pass",
        ("tests/providers/test_toy.py",),
    ),
    Mutant(
        "a 503 is a refusal",
        "_wire/gemini/errors.py",
        "415, 422})",
        "415, 422, 503})",
        ("tests/wire/test_gemini_errors.py",),
    ),
    Mutant(
        "a proxy's 400 is a refusal of the service",
        "_wire/gemini/errors.py",
        "    status = read_status(reply)\n    if status is None or",
        "    status = read_status(reply) or Status()\n    if",
        ("tests/wire/test_gemini_errors.py",),
    ),
    Mutant(
        "the next attempt begins without a revocation",
        "_rules/submission.py",
        "return Revoke() if terms.revocable else Retry(reason)",
        "return Retry(reason)",
        (SCHEDULES,),
    ),
    Mutant(
        "a revocation counts before the file is seen to be gone",
        "_flow/reconciler.py",
        "        if await ctx.provider.find_file(file):\n            return row\n",
        "",
        ("tests/flow/test_reconciler.py",),
    ),
    Mutant(
        "one pass without the job is absence",
        "_rules/submission.py",
        "return evidence.controlled >= policy.controlled_looks and waited >= settle * policy.controlled_settles",
        "return evidence.controlled >= 1",
        ("tests/rules/test_submission.py",),
    ),
    Mutant(
        "absence is believed on an incomplete pass",
        "_flow/reconciler.py",
        "after(self._ctx.clock.monotonic(), Pass.VOID))",
        "after(self._ctx.clock.monotonic(), Pass.CONTROLLED))",
        ("tests/flow/test_reconciler.py",),
    ),
    Mutant(
        "a list counts without a job that is known",
        "_rules/submission.py",
        "return Pass.CONTROLLED if shown & expected else Pass.VOID",
        "return Pass.CONTROLLED",
        ("tests/rules/test_submission.py", "tests/flow/test_duplicates.py"),
    ),
    Mutant(
        "an ambiguous create counts as refused",
        "_rules/submission.py",
        "row.intent_at is not None and row.ambiguous_at is None",
        "row.intent_at is not None",
        ("tests/rules/test_submission.py",),
    ),
    Mutant(
        "a refusal that was an acceptance loses its input file",
        "_flow/reconciler.py",
        "if row.attempt > 1 and not (submission.was_refused(row) and self._search.is_new(row)):",
        "if row.attempt > 1:",
        ("tests/flow/test_refusals.py",),
    ),
    Mutant(
        "the lines of a refused create fail unseen",
        "_flow/submitter.py",
        "            found = await self._lookback.find(row)\n",
        "            found = None\n",
        ("tests/flow/test_faults.py::test_a_disturbed_create_makes_one_job",),
    ),
    Mutant(
        "a create that was barred counts as none",
        "_flow/submitter.py",
        "row.intent_at)\n                raise error\n            case Outcome.NOT_SENT:",
        "before)\n                raise error\n            case Outcome.NOT_SENT:",
        ("tests/flow/test_refusals.py",),
    ),
    Mutant(
        "the lines of a job that somebody cancelled are asked again",
        "_rules/submission.py",
        "        return Quarantined(reason=_cancelled(name))\n",
        "        pass\n",
        (SCHEDULES,),
    ),
    Mutant(
        "the lines that a cancelled job left are asked again",
        "_rules/generations.py",
        "not (repeats or wished or cancelled)",
        "not (repeats or wished)",
        ("tests/rules/test_generations.py",),
    ),
    Mutant(
        "lines of a job that was cancelled at work are asked again",
        "_io/generation_files.py",
        "        again = failed.retryable and not is_cancelled(failed.error, self._asked.shape)\n",
        "        again = failed.retryable\n",
        ("tests/flow/test_generations.py",),
    ),
    Mutant(
        "jobs that never start are made for ever",
        "_rules/submission.py",
        "if before + 1 >= policy.never_started_jobs:",
        "if before < 0:",
        ("tests/rules/test_submission.py",),
    ),
    Mutant(
        "after a job that never started the list is not looked at",
        "_flow/submitter.py",
        "sent_before = row.tag is not None or",
        "sent_before = row.intent_at is not None or",
        ("tests/flow/test_refusals.py",),
    ),
    Mutant(
        "a revocation is recorded where nothing can be revoked",
        "_flow/reconciler.py",
        "revocable = ctx.provider.uploads is not None",
        "revocable = True",
        ("tests/flow/test_refusals.py",),
    ),
    Mutant(
        "an end without results is believed at once",
        "_rules/submission.py",
        "return seen.looks >= looks and monotonic - seen.since >= seconds",
        "return seen.looks >= 1",
        ("tests/flow/test_faults.py::test_odd_words_about_a_job_are_waited_out",),
    ),
    Mutant(
        "the machine's clock alone says that a job is late",
        "_rules/submission.py",
        "    if by_service and by_local:\n",
        "    if by_local:\n",
        ("tests/flow/test_reconciler.py",),
    ),
    Mutant(
        "a pass for an ambiguous create ends early",
        "_flow/job_list.py",
        "if token is None or (until and not missing):",
        "if token is None or not missing:",
        ("tests/flow/test_job_list.py",),
    ),
    Mutant(
        "one of our jobs that can't be read is overlooked",
        "_flow/job_list.py",
        "    found.refuse_unreadable()\n    return found",
        "    return found",
        ("tests/flow/test_job_list.py",),
    ),
    # The same, and others, found by random schedules.
    Mutant(
        "a restart forgets the create",
        "_flow/submitter.py",
        'return await self._ambiguous(row, "the program stopped between the intent and the answer")',
        'return await self._ctx.record(row, CreateDeferred(due=0.0, reason="interrupted"))',
        (SCHEDULES,),
    ),
    Mutant(
        "an ambiguous create may be sent again after one look",
        "_flow/submitter.py",
        "            case Outcome.AMBIGUOUS:\n                return await self._ambiguous(row, str(error))\n",
        "            case Outcome.AMBIGUOUS:\n                return await self._defer(row, error, row.intent_at)\n",
        (SCHEDULES,),
    ),
    Mutant(
        "an empty list is believed",
        "_rules/submission.py",
        "expected = younger or known.keys()\n    if not expected:",
        "expected = younger or known.keys()\n    if not shown:\n        return Pass.CONTROLLED\n    if not expected:",
        (SCHEDULES,),
    ),
    Mutant(
        "a job of shard 10 is one of shard 1",
        "_rules/submission.py",
        "prefix, files = naming.shard_prefix(token, row.shard, row.generation), input_files(token, row)",
        'prefix, files = naming.shard_prefix(token, row.shard, 0).removesuffix(".0."), input_files(token, row)',
        (SCHEDULES,),
    ),
    Mutant(
        "a job is found by its tag alone",
        "_rules/submission.py",
        " or naming.plain_file(job.input_file) in files]",
        "]",
        (SCHEDULES,),
    ),
    Mutant(
        "an old duplicate job is a control for an ambiguous create",
        "_rules/submission.py",
        "shown.duplicates if row.state is State.UPLOADED else frozenset[str]()",
        "shown.duplicates",
        ("tests/rules/test_submission.py",),
    ),
    Mutant(
        "a job that never started is adopted again",
        "_flow/reconciler.py",
        " for job in own if job.name not in refused]",
        " for job in own if job.name]",
        ("tests/flow/test_reconciler.py",),
    ),
    Mutant(
        "one pass clears a 429",
        "_rules/submission.py",
        "return looks >= policy.refused_looks and waited >= settle * policy.refused_settles",
        "return looks >= 1",
        (SCHEDULES,),
    ),
    Mutant(
        "shard 10 is taken for shard 1",
        "_rules/naming.py",
        'return f"{run_prefix(token)}{shard}.{generation}."',
        'return f"{run_prefix(token)}{shard}"',
        ("tests/rules/test_naming.py",),
    ),
    # Duplicate jobs.
    Mutant(
        "duplicate jobs are not cancelled",
        "_flow/duplicates.py",
        "            await ctx.provider.cancel(duplicate.job)\n",
        "",
        ("tests/flow/test_duplicates.py",),
    ),
    Mutant(
        "a duplicate job is cancelled before the row that says so",
        "_flow/duplicates.py",
        "            await _note(ctx, duplicate)\n    await cancel_duplicates(ctx)",
        "            await ctx.provider.cancel(duplicate.job)\n"
        "            await _note(ctx, duplicate)\n    await cancel_duplicates(ctx)",
        ("tests/flow/test_duplicates.py",),
    ),
    Mutant(
        "a job is cancelled although its shard has none",
        "_rules/submission.py",
        "if row is None or row.state is State.QUARANTINED:\n        return DuplicateState.SEEN",
        "if row is None or row.state is State.QUARANTINED:\n        return DuplicateState.CANCELLING",
        ("tests/rules/test_submission.py", "tests/flow/test_duplicates.py"),
    ),
    Mutant(
        "a job of other content is adopted",
        "_rules/submission.py",
        "if (tag.sha16, tag.lines) != (shard.sha256[:16], shard.lines):",
        "if tag.lines < 0:",
        ("tests/rules/test_submission.py", "tests/flow/test_duplicates.py"),
    ),
    # Uploads.
    Mutant(
        "the offset of an upload moves on our own guess",
        "_rules/upload.py",
        'if answer.upload_status == "active" and (answer.status != 200 or answer.received is None):\n'
        "        return offset_lost(upload)",
        'if answer.upload_status == "active" and (answer.status != 200 or answer.received is None):\n'
        "        return msgspec.structs.replace(upload, offset=min(upload.size, upload.offset + upload.granularity))",
        ("tests/rules/test_upload.py",),
    ),
    Mutant(
        "an upload taken up again goes on without asking",
        "_rules/upload.py",
        "offset_unknown=upload.session is not None, high=high, stalls=0",
        "offset_unknown=False, high=high, stalls=0",
        ("tests/rules/test_upload.py",),
    ),
    Mutant(
        "a file that somebody else has made under our name is used",
        "_flow/uploader.py",
        'if self.row.state is State.FINALIZING and file.display_name in ("", self._tag):',
        "if file.bytes == self._shard.bytes:",
        ("tests/flow/test_what_is_sent.py",),
    ),
    Mutant(
        "the digest of an uploaded file is not compared",
        "_flow/uploader.py",
        " or file.sha256 not in (None, digest):",
        ":",
        ("tests/flow/test_faults.py::test_a_disturbed_upload_brings_the_whole_file",),
    ),
    Mutant(
        "a shard that changed on the disk is sent",
        "_io/request_file.py",
        "            self._compare()\n",
        "            pass\n",
        ("tests/flow/test_what_is_sent.py",),
    ),
    Mutant(
        "an upload makes progress below what was confirmed before",
        "_rules/upload.py",
        "    if answer.received > upload.high:\n",
        "    if answer.received > upload.offset:\n",
        ("tests/rules/test_upload.py",),
    ),
    Mutant(
        "bytes that the service does not keep are sent without a bound",
        "_rules/upload.py",
        "if upload.discarded > upload.size:",
        "if upload.discarded < 0:",
        ("tests/rules/test_upload.py",),
    ),
    Mutant(
        "the address of an upload session is stored before it is checked",
        "_flow/uploader.py",
        "if answer.session is not None and not self._uploads.owns(answer.session):",
        "if answer.session is not None and not answer.session:",
        ("tests/flow/test_faults.py::test_an_upload_address_elsewhere_is_never_stored",),
    ),
    # Time.
    Mutant(
        "the time of one answer is the service's",
        "_rules/service_clock.py",
        "if abs(served_at - local) <= self._policy.clock_agrees or",
        "if served_at or",
        ("tests/rules/test_service_clock.py",),
    ),
    Mutant(
        "a time that does not move is the service's",
        "_rules/service_clock.py",
        "if before is None or not self._agrees(ahead, before.ahead):",
        "if before is None:",
        ("tests/rules/test_service_clock.py",),
    ),
    Mutant(
        "the service's clock alone says that a job is late",
        "_rules/submission.py",
        "    if by_service and by_local:\n",
        "    if by_service:\n",
        ("tests/flow/test_reconciler.py",),
    ),
    Mutant(
        "a file that was uploaded just now may have expired",
        "_flow/uploader.py",
        "        if fresh:\n",
        "        if not file:\n",
        ("tests/flow/test_faults.py::test_a_disturbed_upload_brings_the_whole_file",),
    ),
    # Downloads and answers.
    Mutant(
        "the seam of a resumed download is not compared",
        "_io/result_file.py",
        "if known and os.pread(self._file.fileno(), known, self._position) != piece[:known]:",
        "if known < 0:",
        ("tests/io/test_partial_download.py",),
    ),
    Mutant(
        "a body shorter than announced is taken",
        "_io/result_file.py",
        "if total is not None and self._position != total:",
        "if total is not None and self._position > total:",
        ("tests/io/test_partial_download.py",),
    ),
    Mutant(
        "a proxy's 404 says that a file is gone",
        "_providers/gemini.py",
        "            elif reply.status in allowed and read_status(reply):\n",
        "            elif reply.status in allowed:\n",
        ("tests/providers/test_gateway.py",),
    ),
    Mutant(
        "a call that drips has no longest time",
        "_io/transport.py",
        "min(self._seconds, self.left() + count / self._rate)",
        "self._seconds",
        ("tests/io/test_transport.py",),
    ),
    Mutant(
        "the first copy of the results is believed",
        "_flow/collector.py",
        "        if digests == seen:\n",
        "        if digests:\n",
        ("tests/flow/test_faults.py",),
    ),
    Mutant(
        "results that end in the middle of a row are taken",
        "_io/result_file.py",
        "    if not ended and not row.whole:",
        "    if not ended and not row:",
        ("tests/io/test_join.py",),
    ),
    Mutant(
        "the last of several rows counts, an error or not",
        "_rules/join.py",
        "if held is None or row.before(held):",
        "if row:",
        ("tests/io/test_join.py",),
    ),
    Mutant(
        "of rows out of order, the last of several counts, an error or not",
        "_io/hash_join.py",
        "if kind % MARKED > held:",
        "if kind:",
        ("tests/io/test_join.py",),
    ),
    Mutant(
        "an answer that comes late stands behind those written ahead",
        "_io/join.py",
        "            self._answers.cut_to(self._bytes)\n",
        "            pass\n",
        ("tests/io/test_join_orders.py",),
    ),
    Mutant(
        "an answer in its place is preferred to an earlier one",
        "_rules/join.py",
        "if row.answered and row.offset < span.offset:",
        "if row.offset < 0:",
        ("tests/io/test_join_orders.py",),
    ),
    Mutant(
        "a key that is asked twice takes two rows",
        "_io/join_worker.py",
        "if len(seen) < count or count > most:",
        "if count > most:",
        ("tests/io/test_join_orders.py",),
    ),
    Mutant(
        "keys that did not come from the process beside are taken for none",
        "_io/join_worker.py",
        "        yield data\n    raise OutOfOrder\n",
        "        yield data\n",
        ("tests/io/test_join_worker.py",),
    ),
    Mutant(
        "a key that has an answer is asked again",
        "_io/generation_files.py",
        """            request = requests.seek(validated_key(line))
""",
        """            while (request := requests.take(validated_key(line))) is None:
                extra = validated_key(requests._line)
                sorter.keep(Failed(extra, "", asked.first + requests.passed, 1, True), requests.seek(extra))
""",
        ("tests/flow/test_generations.py::test_a_passing_failure_is_asked_again_and_nothing_else",),
    ),
    Mutant(
        "a row that is no JSON passes into the output",
        "_rules/result_rows.py",
        "    if fault := _flaw(line):",
        "    if (fault := _flaw(line)) and not key:",
        ("tests/rules/test_result_rows.py", "tests/io/test_mutated_rows.py"),
    ),
    Mutant(
        "a key without a row is asked again although rows came that nobody can place",
        "_io/generation_files.py",
        "    if tally.unknown:",
        "    if tally.unknown < 0:",
        ("tests/io/test_generation_rows.py",),
    ),
    Mutant(
        "an answer that says little is lost when its second try fails",
        "_rules/generations.py",
        "    if not before.verdict.is_paid or now.verdict.is_paid:",
        "    if now:",
        ("tests/io/test_generation_rows.py",),
    ),
    Mutant(
        "an answer that says little takes the place of a full one",
        "_rules/join.py",
        "return (-self.kind, self.offset) < (-other.kind, other.offset)",
        "return (-min(self.kind, 2), self.offset) < (-min(other.kind, 2), other.offset)",
        ("tests/io/test_result_rows.py",),
    ),
    Mutant(
        "a file nested too deep is a defect of ours",
        "_wire/gemini/files.py",
        "except (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError) as error:",
        "except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:",
        ("tests/wire/test_gemini_files.py",),
    ),
    Mutant(
        "an endpoint's answer that is no JSON is asked for again",
        "server/backends/forward.py",
        "RowError(code=GRPC_DATA_LOSS,",
        "RowError(code=GRPC_INTERNAL,",
        ("tests/server/test_backends.py",),
    ),
    # Input.
    Mutant(
        "a key that stands twice in the input is kept twice",
        "_io/ledger.py",
        "return without(block, repeated, partial(repeated_key, shape=self._shape))",
        "return block",
        ("tests/flow/test_run.py::test_bad_lines_are_listed_and_the_rest_is_answered",),
    ),
    Mutant(
        "an input is used before its end was seen",
        "_flow/ingest.py",
        "                await source.verify()\n",
        "                pass\n",
        ("tests/flow/test_what_is_sent.py",),
    ),
    # What must last.
    Mutant(
        "the manifest syncs only now and then",
        "_manifest/database.py",
        "PRAGMA synchronous = FULL;",
        "PRAGMA synchronous = NORMAL;",
        ("tests/manifest/test_durability.py",),
    ),
    Mutant(
        "a file gets its name before it is durable",
        "_io/disk.py",
        "    sync(what, file)\n    file.close()\n    rename(what, draft, final)\n",
        "    rename(what, draft, final)\n    sync(what, file)\n    file.close()\n",
        ("tests/io/test_durable_files.py",),
    ),
    Mutant(
        "results get their names before they are durable",
        "_io/spool.py",
        "                sync(what, file)\n            rename(what, temporary, final)\n",
        "                rename(what, temporary, final)\n                sync(what, file)\n",
        ("tests/io/test_durable_files.py",),
    ),
    Mutant(
        "the name of a file is not made durable",
        "_io/disk.py",
        "    rename(what, draft, final)\n    sync_directory(what, final.parent)\n",
        "    rename(what, draft, final)\n",
        ("tests/io/test_durable_files.py",),
    ),
    Mutant(
        "a publication takes the place of a file that appeared meanwhile",
        "_io/disk.py",
        "    if not rename_new(what, draft, final):\n        return False\n    sync_directory",
        "    rename(what, draft, final)\n    sync_directory",
        ("tests/io/test_storage.py",),
    ),
    Mutant(
        "a draft that another user made is published as ours",
        "_io/disk.py",
        "        path.unlink(missing_ok=True)\n        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL",
        "        handle = os.open(path, os.O_WRONLY | os.O_CREAT",
        ("tests/io/test_storage.py",),
    ),
    Mutant(
        "an output is not reserved",
        "_flow/publisher.py",
        "    await _reserve(ctx, output)\n    if",
        "    if",
        ("tests/flow/test_publication.py::test_two_runs_side_by_side_never_share_an_output",),
    ),
    Mutant(
        "what a thread opens is lost when asyncio cancels",
        "_io/threads.py",
        "return await finish(in_thread(act, *arguments, limiter=limiter))",
        "return await in_thread(act, *arguments, limiter=limiter)",
        ("tests/io/test_threads.py", "tests/flow/test_native_cancel.py"),
    ),
    Mutant(
        "uploads are limited for each run by itself",
        "_flow/driver.py",
        "Lane(ctx.shares.uploads,",
        "Lane(Slots(ctx.options.uploads),",
        ("tests/flow/test_side_by_side.py",),
    ),
    Mutant(
        "a status that cannot be written ends the run",
        "_flow/reporting.py",
        "    except IncompleteRun as error:\n",
        "    except KeyError as error:\n",
        ("tests/flow/test_side_by_side.py",),
    ),
    Mutant(
        "the modules of a client are imported in the loop's thread",
        "_io/threads.py",
        "    await in_thread(lambda: [import_module(module) for module in modules])",
        "    await anyio.sleep(0)",
        ("tests/flow/test_opening.py",),
    ),
    Mutant(
        "answers are let go before the row that says where they are published",
        "_flow/publisher.py",
        "    await ctx.manifest.publish(ctx.run.id, digest)\n    await ctx.files.discard_results()\n",
        "    await ctx.files.discard_results()\n    await ctx.manifest.publish(ctx.run.id, digest)\n",
        (CRASH,),
    ),
    Mutant(
        "a shard's file is deleted before the row of its results",
        "_flow/collector.py",
        "    tally, child = await join.seal()\n",
        "    tally, child = await join.seal()\n"
        "    await ctx.files.shards.delete(ctx.files.shard(row.shard, row.generation))\n",
        (CRASH,),
    ),
    Mutant(
        "a job that never started is created again with a file that is gone",
        "_flow/submitter.py",
        "if soon is None or (waited and not soon):",
        "if soon is None:",
        ("tests/providers/test_toy.py",),
    ),
    Mutant(
        "a create goes out before its witness is written",
        "_manifest/sqlite.py",
        "if isinstance(change.event, CreateIntended):",
        "if number < 0:",
        ("tests/manifest/test_identity.py",),
    ),
    Mutant(
        "a row that has changed on the disk is read as it is",
        "_manifest/digests.py",
        "    if sound != 1:",
        "    if sound is None:",
        ("tests/manifest/test_digests.py",),
    ),
    Mutant(
        "an input that ends before the last job is recovered",
        "_flow/job_list.py",
        "    if last >= cursor.shards:",
        "    if last < 0:",
        ("tests/flow/test_recover.py",),
    ),
    Mutant(
        "landed answers are published unread",
        "_io/storage.py",
        '        if piece.sha256 in ("", sha256):',
        "        if True:",
        ("tests/crash/test_tampering.py",),
    ),
    Mutant(
        "an empty database is new, whatever is beside it",
        "_rules/past.py",
        "    if known.tokens:\n        return None\n",
        "    return None\n",
        ("tests/manifest/test_identity.py",),
    ),
    Mutant(
        "the row of a shard is changed without its guard",
        "_manifest/sql/queries.sql",
        "\n    AND state = :before AND attempt = :attempt_before AND fence = :fence",
        "\n    AND true",
        ("tests/manifest/test_sqlite.py",),
    ),
    Mutant(
        "a second driver is let in",
        "_io/lock.py",
        "fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)",
        ("tests/manifest/test_lock.py",),
    ),
    # Secrets.
    Mutant(
        "the address of an upload session outlives the upload",
        "_manifest/queries.py",
        '        connection.execute(_SQL["drop_session"], key(row))\n',
        "        pass\n",
        ("tests/manifest/test_durability.py",),
    ),
    Mutant(
        "the history tells the address of an upload session",
        "_rules/lifecycle.py",
        'if k != "upload" and v is not None',
        "if v is not None",
        ("tests/rules/test_lifecycle.py",),
    ),
    Mutant(
        "a message quotes the address of an upload session",
        "_flow/uploader.py",
        "origin = shown_origin(answer.session)",
        "origin = answer.session",
        ("tests/cli/test_sentinel_key.py",),
    ),
    Mutant(
        "the key stands in the manifest",
        "_flow/recovery.py",
        "Credential(salt, _digest(salt, key), place)",
        "Credential(salt, key.reveal() if key else '', place)",
        ("tests/cli/test_sentinel_key.py",),
    ),
    # What is refused as a whole.
    Mutant(
        "half of the lines decide what a file is",
        "_rules/diagnosis.py",
        "_SHARE = 90",
        "_SHARE = 50",
        ("tests/rules/test_diagnosis.py::test_nine_in_ten_lines_decide",),
    ),
    Mutant(
        "a run that has shards is looked at again",
        "_flow/ingest.py",
        "if not (ctx.run.recovered or cursor.shards):",
        "if not ctx.run.recovered:",
        ("tests/flow/test_other_formats.py::test_a_run_that_has_shards_is_not_looked_at_again",),
    ),
    Mutant(
        "a directory of an earlier run is read at any depth",
        "_flow/ingest.py",
        "flat = cursor.shards > 0 and not cursor.recursive",
        "flat = False",
        ("tests/flow/test_input_directories.py",),
    ),
    Mutant(
        "places that are noted again come twice",
        "_io/places.py",
        "if after and after.ordinal > known and not _follows(before, after)",
        "if after and not _follows(before, after)",
        ("tests/io/test_places.py",),
    ),
    Mutant(
        "places behind the cut count as sealed",
        "_io/places.py",
        "bisect_left(self._ordinals, ordinal) * _RECORD.size",
        "len(self._ordinals) * _RECORD.size",
        ("tests/io/test_places.py",),
    ),
    Mutant(
        "a failed key counts as answered",
        "_io/earlier_keys.py",
        "found |= here - _held(failed, here)",
        "found |= here",
        ("tests/flow/test_further.py::test_fixed_lines_are_answered_behind_the_others",),
    ),
    Mutant(
        "what was given again stays listed",
        "_io/earlier_keys.py",
        "if key not in gone]",
        "]",
        ("tests/flow/test_further.py::test_fixed_lines_are_answered_behind_the_others",),
    ),
)
