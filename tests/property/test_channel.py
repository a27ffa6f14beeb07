"""Whatever producers, readers and closings do, each subscription behaves like a bounded queue of its own."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from unspool.channel import EventChannel, Subscription, emit_event


class ChannelMachine(RuleBasedStateMachine):
    """Compares a channel with lists."""

    subscriptions = Bundle("subscriptions")

    @initialize(maxsize=st.integers(1, 3))
    def open(self, maxsize: int) -> None:
        self.maxsize = maxsize
        self.channel = EventChannel(maxsize)
        self.closed = False
        self.sent = 0
        self.lost = 0
        self.waiting: list[int] | None = []
        self.waiting_lost = 0
        self.expected: dict[int, list[int]] = {}
        self.dropped: dict[int, int] = {}
        self.ended: set[int] = set()

    @rule(target=subscriptions)
    def subscribe(self) -> Subscription:
        subscription = self.channel.subscribe()
        self.expected[id(subscription)] = self.waiting or []
        self.dropped[id(subscription)] = self.waiting_lost
        self.waiting, self.waiting_lost = None, 0
        return subscription

    @rule()
    def emit(self) -> None:
        emit_event(self.channel, self.sent)
        if not self.closed and self.waiting is not None:
            if len(self.waiting) < self.maxsize:
                self.waiting.append(self.sent)
            else:
                self.waiting_lost += 1
                self.lost += 1
        elif not self.closed:
            for key, queue in self.expected.items():
                if key in self.ended:
                    continue
                if len(queue) < self.maxsize:
                    queue.append(self.sent)
                else:
                    self.dropped[key] += 1
                    self.lost += 1
        self.sent += 1

    @rule(subscription=subscriptions)
    def read(self, subscription: Subscription) -> None:
        queue = self.expected[id(subscription)]
        try:
            event = subscription.get(0)
        except TimeoutError:
            assert not queue
            assert not self.closed
            assert id(subscription) not in self.ended
            return
        assert event == (queue.pop(0) if queue else None)

    @rule(subscription=subscriptions)
    def unsubscribe(self, subscription: Subscription) -> None:
        subscription.close()
        self.ended.add(id(subscription))
        self.expected[id(subscription)] = []

    @rule()
    def close(self) -> None:
        self.channel.close()
        self.closed = True

    @rule(subscription=subscriptions)
    def compare(self, subscription: Subscription) -> None:
        assert subscription.dropped == self.dropped[id(subscription)]
        assert subscription.pending == len(self.expected[id(subscription)])

    @invariant()
    def every_loss_is_counted(self) -> None:
        if hasattr(self, "lost"):
            assert self.channel.dropped == self.lost


TestChannel = ChannelMachine.TestCase
TestChannel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
