"""The event channel: broadcast, bounded, never in the way of a producer."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from itertools import chain

import pytest

from unspool.channel import EventChannel, emit_event


def test_every_subscriber_sees_every_event_in_order():
    channel = EventChannel(8)
    first, second = channel.subscribe(), channel.subscribe()
    for number in range(5):
        emit_event(channel, number)
    channel.close()
    assert list(first) == list(second) == [0, 1, 2, 3, 4]


def test_events_before_the_first_subscription_wait_for_it_and_only_it():
    channel = EventChannel(8)
    emit_event(channel, "early")
    first, later = channel.subscribe(), channel.subscribe()
    emit_event(channel, "now")
    channel.close()
    assert list(first) == ["early", "now"]
    assert list(later) == ["now"]


def test_a_closed_first_subscription_does_not_bring_the_waiting_room_back():
    channel = EventChannel(8)
    channel.subscribe().close()
    emit_event(channel, "nobody listens")
    later = channel.subscribe()
    channel.close()
    assert list(later) == []
    assert channel.dropped == 0


def test_a_full_subscription_loses_the_new_event_and_counts_it():
    channel = EventChannel(2)
    slow, quick = channel.subscribe(), channel.subscribe()
    for number in range(5):
        emit_event(channel, number)
        assert quick.get(0) == number
    channel.close()
    assert list(slow) == [0, 1]
    assert (slow.dropped, quick.dropped, channel.dropped) == (3, 0, 3)


def test_what_is_lost_before_anyone_subscribed_counts_for_the_first_subscription():
    channel = EventChannel(2)
    for number in range(5):
        emit_event(channel, number)
    assert channel.dropped == 3
    first, second = channel.subscribe(), channel.subscribe()
    channel.close()
    assert list(first) == [0, 1]
    assert (first.dropped, second.dropped, channel.dropped) == (3, 0, 3)


@pytest.mark.parametrize("maxsize", [0, -1])
def test_a_channel_has_room_for_at_least_one_event(maxsize):
    with pytest.raises(ValueError, match="maxsize"):
        EventChannel(maxsize)


def test_no_channel_and_a_closed_channel_ignore_events():
    emit_event(None, 1)
    channel = EventChannel(1)
    channel.close()
    channel.close()
    emit_event(channel, 1)
    assert list(channel) == []
    assert channel.dropped == 0
    assert channel.closed


def test_iterating_the_channel_is_one_subscription():
    channel = EventChannel(4)
    emit_event(channel, 1)
    iterator = iter(channel)
    emit_event(channel, 2)
    channel.close()
    assert list(iterator) == [1, 2]


def test_a_forgotten_subscription_stops_accumulating():
    channel = EventChannel(1)
    for _ in range(3):
        subscription = channel.subscribe()
        del subscription
    gc.collect()
    for number in range(10):
        emit_event(channel, number)
    assert channel.dropped == 0


def test_leaving_the_block_closes_the_subscription():
    channel = EventChannel(1)
    with channel.subscribe() as subscription:
        emit_event(channel, 1)
    emit_event(channel, 2)
    emit_event(channel, 3)
    assert list(subscription) == []
    assert (subscription.dropped, channel.dropped) == (0, 0)


def test_get_waits_times_out_and_ends():
    channel = EventChannel(1)
    subscription = channel.subscribe()
    with pytest.raises(TimeoutError):
        subscription.get(0)
    with pytest.raises(TimeoutError):
        subscription.get(0.01)
    with pytest.raises(ValueError, match="negative"):
        subscription.get(-1)
    threading.Timer(0.02, emit_event, (channel, "late")).start()
    assert subscription.get(10) == "late"
    threading.Timer(0.02, channel.close).start()
    assert subscription.get() is None


def test_drain_takes_what_is_there():
    channel = EventChannel(4)
    subscription = channel.subscribe()
    emit_event(channel, 1)
    emit_event(channel, 2)
    assert subscription.pending == 2
    assert subscription.drain() == [1, 2]
    assert (subscription.pending, subscription.drain()) == (0, [])


@pytest.mark.parametrize("who", ["channel", "subscription"])
def test_close_wakes_waiting_threads(who):
    channel = EventChannel(1)
    subscription = channel.subscribe()
    seen: list[list[object]] = []
    readers = [threading.Thread(target=lambda: seen.append(list(subscription))) for _ in range(3)]
    for reader in readers:
        reader.start()
    (channel if who == "channel" else subscription).close()
    for reader in readers:
        reader.join(10)
    assert seen == [[], [], []]


def test_many_producers_lose_and_duplicate_nothing_and_all_readers_agree_on_the_order():
    channel = EventChannel(10_000)
    readers = [channel.subscribe() for _ in range(3)]
    seen: list[list[tuple[int, int]]] = [[] for _ in readers]
    threads = [threading.Thread(target=lambda i=i: seen[i].extend(readers[i])) for i in range(3)]

    def produce(producer: int) -> None:
        for number in range(100):
            emit_event(channel, (producer, number))

    producers = [threading.Thread(target=produce, args=(n,)) for n in range(16)]
    for thread in threads + producers:
        thread.start()
    for producer in producers:
        producer.join()
    channel.close()
    for thread in threads:
        thread.join()
    assert seen[0] == seen[1] == seen[2]
    assert sorted(seen[0]) == [(p, n) for p in range(16) for n in range(100)]
    for producer in range(16):
        assert [n for p, n in seen[0] if p == producer] == list(range(100))


def test_threads_sharing_a_subscription_divide_its_events():
    channel = EventChannel(1000)
    subscription = channel.subscribe()
    seen: list[list[int]] = [[], [], []]
    threads = [threading.Thread(target=lambda mine=mine: mine.extend(subscription)) for mine in seen]
    for thread in threads:
        thread.start()
    for number in range(500):
        emit_event(channel, number)
    channel.close()
    for thread in threads:
        thread.join()
    assert sorted(chain(*seen)) == list(range(500))


@pytest.mark.timeout(60)  # it would hang for ever if it waited
def test_a_producer_is_not_held_up_by_a_reader_that_does_not_read():
    channel = EventChannel(1)
    subscription = channel.subscribe()
    for number in range(10_000):
        emit_event(channel, number)
    assert subscription.dropped == 9_999


def test_a_signal_handler_may_emit_while_its_thread_emits():
    channel = EventChannel(100_000)
    subscription = channel.subscribe()
    previous = signal.signal(signal.SIGALRM, lambda *_: emit_event(channel, "signal"))
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        for number in range(20_000):
            emit_event(channel, number)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    numbers = [event for event in subscription.drain() if event != "signal"]
    assert numbers == list(range(20_000))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork with threads is what this is about
def test_a_forked_child_does_not_hang_on_a_lock_held_at_the_fork():
    channel = EventChannel(4)
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with channel._lock:
            entered.set()
            leave.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    entered.wait(10)
    child = os.fork()
    if child == 0:
        signal.alarm(5)
        emit_event(channel, "in the child")
        os._exit(0)
    leave.set()
    holder.join()
    assert os.waitpid(child, 0)[1] == 0


# --- asyncio ---------------------------------------------------------------------------------------------------------


def test_async_iteration_receives_from_other_threads_and_ends_with_the_channel():
    channel = EventChannel(1000)

    async def read() -> list[int]:
        return [event async for event in channel]

    def produce() -> None:
        for number in range(200):
            emit_event(channel, number)
        channel.close()

    async def main() -> list[int]:
        reading = asyncio.create_task(read())
        await asyncio.to_thread(produce)
        return await asyncio.wait_for(reading, 10)

    before = threading.active_count()
    assert asyncio.run(main()) == list(range(200))
    assert threading.active_count() == before


def test_one_channel_serves_several_event_loops_and_a_thread():
    channel = EventChannel(1000)
    subscriptions = [channel.subscribe() for _ in range(3)]

    async def read(subscription) -> list[int]:
        return [event async for event in subscription]

    results: list[list[int]] = []
    threads = [threading.Thread(target=lambda s=s: results.append(asyncio.run(read(s)))) for s in subscriptions[:2]]
    threads.append(threading.Thread(target=lambda: results.append(list(subscriptions[2]))))
    for thread in threads:
        thread.start()
    for number in range(100):
        emit_event(channel, number)
    channel.close()
    for thread in threads:
        thread.join(10)
    assert results == [list(range(100))] * 3


def test_a_waiting_task_costs_the_loop_nothing():
    """No polling: between two events the loop runs no callback of ours."""
    channel = EventChannel(4)
    ran = 0

    class CountingLoop(asyncio.SelectorEventLoop):
        def _run_once(self) -> None:
            nonlocal ran
            ran += 1
            super()._run_once()

    async def main() -> int:
        reading = asyncio.create_task(anext(aiter(channel)))
        await asyncio.sleep(0.01)
        before = ran
        await asyncio.sleep(0.2)
        turns = ran - before
        emit_event(channel, 1)
        assert await reading == 1
        return turns

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        assert runner.run(main()) <= 3


def test_a_cancelled_read_loses_no_event():
    channel = EventChannel(16)

    async def main() -> list[int]:
        subscription = channel.subscribe()
        reading = asyncio.create_task(anext(subscription))
        await asyncio.sleep(0)
        emit_event(channel, 1)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        emit_event(channel, 2)
        channel.close()
        return [event async for event in subscription]

    assert asyncio.run(main()) == [1, 2]


def test_aget_times_out():
    async def main() -> None:
        channel = EventChannel(1)
        subscription = channel.subscribe()
        with pytest.raises(TimeoutError):
            await subscription.aget(0)
        with pytest.raises(TimeoutError):
            await subscription.aget(0.01)
        with pytest.raises(ValueError, match="negative"):
            await subscription.aget(-1)
        emit_event(channel, 1)
        assert await subscription.aget(0) == 1

    asyncio.run(main())


def test_tasks_sharing_a_subscription_all_end_when_it_closes():
    async def main() -> None:
        channel = EventChannel(4)
        subscription = channel.subscribe()
        tasks = [asyncio.create_task(subscription.aget()) for _ in range(3)]
        await asyncio.sleep(0)
        emit_event(channel, 1)
        await asyncio.sleep(0.01)
        subscription.close()
        assert sorted(await asyncio.gather(*tasks), key=repr) == [1, None, None]

    asyncio.run(main())


def test_emitting_to_a_task_whose_loop_was_closed_does_not_raise():
    channel = EventChannel(4)
    subscription = channel.subscribe()
    reading = subscription.aget()

    async def wait_and_leave() -> None:
        reading.send(None)  # runs up to where it waits for an event, on this loop

    asyncio.run(wait_and_leave())
    emit_event(channel, 1)
    assert subscription.drain() == [1]
    reading.close()
