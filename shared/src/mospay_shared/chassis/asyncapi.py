"""A service's AsyncAPI 3.0 document, generated from its subscriptions and the contract registry."""

from typing import TYPE_CHECKING, Any

from mospay_shared.chassis.broker import COMMANDS, EVENTS
from mospay_shared.contracts.registry import MESSAGES, MessageType

if TYPE_CHECKING:
    from mospay_shared.chassis.service import Service


def _message(message: MessageType) -> dict[str, Any]:
    return {
        "name": message.name,
        "title": message.model.__name__,
        "summary": (message.model.__doc__ or "").strip().splitlines()[0],
        "contentType": "application/cloudevents-batch+json",
        "payload": {"$ref": f"../shared/schemas/{message.name}.json"},
    }


def document(service: "Service") -> dict[str, Any]:
    """Return what the service receives (by queue) and sends (by exchange)."""
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    used: dict[str, MessageType] = {}
    for subscription in service.subscriptions:
        queue = subscription.queue
        names = [n for n in MESSAGES if n in subscription.handlers or "*" in subscription.handlers]
        used |= {name: MESSAGES[name] for name in names}
        channels[queue.name] = {
            "address": queue.name,
            "messages": {n: {"$ref": f"#/components/messages/{n}"} for n in names},
            "bindings": {"amqp": {"is": "queue", "queue": {"name": queue.name, "durable": True}}},
        }
        operations[f"receive {queue.name}"] = {
            "action": "receive",
            "channel": {"$ref": f"#/channels/{queue.name}"},
        }
    for exchange, command in ((EVENTS, False), (COMMANDS, True)):
        sent = {
            n: m for n, m in MESSAGES.items() if m.producer == service.name and m.command is command
        }
        if not sent:
            continue
        used |= sent
        channels[exchange] = {
            "address": exchange,
            "messages": {n: {"$ref": f"#/components/messages/{n}"} for n in sent},
        }
        operations[f"send {exchange}"] = {
            "action": "send",
            "channel": {"$ref": f"#/channels/{exchange}"},
        }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": f"MosPay {service.name}", "version": "1.0.0"},
        "channels": channels,
        "operations": operations,
        "components": {"messages": {n: _message(m) for n, m in sorted(used.items())}},
    }
