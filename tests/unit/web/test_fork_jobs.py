"""Forks that a server starts: real `unspool fork` commands, what they leave behind, and how many there may be."""

from __future__ import annotations

import pytest

from unspool.errors import UsageError
from unspool.web.forkjobs import Job, JobNotFound, Jobs, OptionFile, Order
from unspool.web.jobpage import job_page
from unspool.web.links import PageLinks

WAIT_S = 60  # far more than it takes


@pytest.fixture
def jobs(store):
    made = Jobs(store)
    yield made
    made.close()


def order(record_id: str = "77-none") -> Order:
    return Order("run", record_id, 1, record_id, [], [OptionFile("--edit-file=", "edits.txt", "a\udc80b")])


def ended(job: Job) -> Job:
    assert job.wait(WAIT_S), job.said
    return job


def test_a_fork_that_cannot_be_made_says_why_on_its_page(jobs, store):
    job = ended(jobs.start(order()))
    page = job_page(job, PageLinks(forking=True), store)
    assert page.state == "failed"
    assert page.sentence == "The fork failed. Exit code 1."
    assert page.problem.startswith('recording "77-none" not found')
    assert "77-none" in page.said
    assert "Traceback" not in page.said
    assert page.forks == []


def test_its_files_are_gone_when_it_has_ended_and_only_ours_to_read_before(jobs, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    job = jobs.start(order())
    assert any(one.startswith(f"--edit-file={tmp_path}") for one in job.argv)
    ended(job)
    assert list(tmp_path.glob("unspool-fork-*")) == []


def test_the_command_is_unspool_fork_at_the_recorded_point(jobs, store):
    job = ended(jobs.start(order()))
    assert job.argv[1:5] == ["-m", "unspool", "fork", "77-none@1"]
    assert job.argv[-4:] == ["--run", "--json", "--store", str(store.path)]


def test_prices_of_the_server_hold_for_its_forks(store, tmp_path):
    jobs = Jobs(store, str(tmp_path / "prices.toml"))
    job = ended(jobs.start(order()))
    at = job.argv.index("--prices")
    assert job.argv[at + 1] == str(tmp_path / "prices.toml")


def test_jobs_are_found_by_their_name_and_listed_latest_first(jobs):
    first, second = jobs.start(order("77-none")), jobs.start(order("78-none"))
    assert jobs.get(first.name) is first
    assert jobs.all() == [second, first]
    with pytest.raises(JobNotFound, match="list of runs"):
        jobs.get("nothing")
    ended(first), ended(second)


def test_only_so_many_run_at_once_and_only_so_many_are_remembered(jobs, monkeypatch):
    monkeypatch.setattr("unspool.web.forkjobs._AT_ONCE", 0)
    with pytest.raises(UsageError, match="no more run at once"):
        jobs.start(order())
    monkeypatch.setattr("unspool.web.forkjobs._AT_ONCE", 4)
    monkeypatch.setattr("unspool.web.forkjobs._KEPT", 1)
    first = ended(jobs.start(order()))
    second = ended(jobs.start(order()))
    assert jobs.all() == [second]
    assert first not in jobs.all()


def test_a_server_that_is_being_stopped_starts_no_more(jobs):
    jobs.close()
    with pytest.raises(UsageError, match="being stopped"):
        jobs.start(order())


def test_stopping_what_has_ended_does_nothing(jobs):
    job = ended(jobs.start(order()))
    job.stop()
    assert job.state == "failed"
    assert not job.asked_to_stop
