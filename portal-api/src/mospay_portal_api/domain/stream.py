"""The live stream: which topics there are, and who wants to hear of which row."""

import re
from dataclasses import dataclass

TOPIC_LIMIT = 50  # topics of one stream
_TOPIC = re.compile(r"^(payment|metrics|payment:pay_[0-9a-f]{32})$")


def parse_topics(text: str) -> tuple[frozenset[str], list[str]]:
    """Split a comma list into known topics and what is none; `metrics` has no events yet."""
    given = [topic.strip() for topic in text.split(",") if topic.strip()]
    wrong = [topic for topic in given if not _TOPIC.match(topic)]
    return frozenset(given) - frozenset(wrong), wrong


@dataclass(frozen=True, slots=True)
class Wish:
    """What one subscriber may see (None: every client) and wants to."""

    client_ids: frozenset[str] | None
    topics: frozenset[str]

    def takes(self, client_id: str, topic: str, payment_id: str) -> bool:
        """Say whether a row is for this subscriber."""
        allowed = self.client_ids is None or client_id in self.client_ids
        return allowed and (topic in self.topics or f"payment:{payment_id}" in self.topics)
