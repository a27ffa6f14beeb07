"""A request of a rerun, as the journal names it, and what it gets."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from unspool import providers
from unspool.capture import rerun
from unspool.capture.credentials import clean_url

if TYPE_CHECKING:
    from unspool.capture.flow import Flow
    from unspool.providers import Provider
    from unspool.serving.edits import Rewritten
    from unspool.serving.journal import Entry
    from unspool.serving.plan import Offer
    from unspool.serving.served import Answer
    from unspool.serving.turns import Turn

__all__ = ["Meeting", "Request"]


class Meeting:
    """What became of a request: an answer, or leave to send it.

    Attributes:
        answer: what it is answered with; None: it is sent.
        origin: what its events say.
        body, url: what is sent and recorded in place of its own; None where that stays.
        offer: the recorded exchange it was answered with.
        turn: to be waited for before the answer is given; None: now.
    """

    __slots__ = ("answer", "body", "offer", "origin", "turn", "url")

    def __init__(
        self,
        origin: str,
        answer: Answer | None = None,
        *,
        offer: Offer | None = None,
        body: bytes | None = None,
        url: str | None = None,
    ) -> None:
        self.origin = origin
        self.answer = answer
        self.offer = offer
        self.body = body
        self.url = url
        self.turn: Turn | None = None


class Request:
    """A request as the journal names it."""

    def __init__(self, flow: Flow | None, provider: Provider | None, method: str, url: str, body: bytes) -> None:
        self.flow = flow
        self.provider = provider
        self.method = method
        self.sent_url = url
        self.url = clean_url(url)
        self.body = body
        self.given_url, self.given_body = url, body  # as the program made it
        self.source = rerun.source_of(flow.process) if flow is not None else None
        self.record_id = self.source.record_id if self.source is not None else None
        self.task = flow.path if flow is not None else "0"

    def change(self, done: Rewritten) -> None:
        """Take it as edits make it."""
        self.sent_url = done.url or self.sent_url
        self.url = clean_url(self.sent_url)
        self.body = done.body

    def meeting(self, origin: str, answer: Answer | None = None, *, offer: Offer | None = None) -> Meeting:
        """What it gets; with the body and the URL it has now, where these are not the program's."""
        return Meeting(
            origin,
            answer,
            offer=offer,
            body=self.body if self.body is not self.given_body else None,
            url=self.sent_url if self.sent_url != self.given_url else None,
        )

    def path(self) -> str:
        """Its device path."""
        if self.provider is None:
            return f"/dev/net/{providers.host_port(self.url)}"
        model = providers.request_head(self.provider, self.url, self.body).model
        return f"/dev/llm/{providers.vendor(self.provider, self.url)}/{model or 'unknown'}"

    def entry(self, kind: str, path: str, **more: Any) -> Entry:
        from unspool.serving.journal import Entry

        return Entry(
            kind=kind,
            os_pid=os.getpid(),
            record_id=self.record_id,
            path=path,
            task=self.task,
            method=self.method,
            url=self.url,
            **more,
        )
