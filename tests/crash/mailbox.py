"""A mail server of the suite's own behind a proxy: what notifier hands over, and in which step."""

import email
import email.policy
import re
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller
from mospay_dev.infrastructure.processes import free_port
from mospay_dev.proxy import Act, Proxies, Trap

END_OF_MAIL = b"\r\n.\r\n"
LINK = re.compile(r"https?://[^/\s]+(/portal/\S+)")


class Mailbox:
    """Takes every mail; `at_handover` traps the step in which it takes one."""

    def __init__(self) -> None:
        self._got: list[tuple[str, EmailMessage]] = []
        self._server = Controller(self, hostname="127.0.0.1", port=free_port())
        self._server.start()
        self._proxies = Proxies()
        self._proxy = self._proxies.add("mail", self._server.port, free_port({self._server.port}))

    async def handle_DATA(self, _: Any, __: Any, envelope: Any) -> str:  # noqa: N802
        """Take one mail."""
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self._got += [(address, mail) for address in envelope.rcpt_tos]
        return "250 taken"

    def environment(self) -> dict[str, str]:
        """Return the settings of a notifier that sends here and tries a lost mail again soon."""
        return {
            "NOTIFIER_SMTP_HOST": "127.0.0.1",
            "NOTIFIER_SMTP_PORT": str(self._proxy.port),
            "NOTIFIER_SMTP_TLS": "none",
            "NOTIFIER_SMTP_SECONDS": "3",
            "NOTIFIER_MAIL_LEASE_SECONDS": "5",
            "NOTIFIER_MAIL_POLL_SECONDS": "0.2",
        }

    def at_handover(self, address: str, act: Act) -> Trap:
        """Trap the end of a mail to an address: `after` holds the server's answer to it."""
        return self._proxy.trap(address, act, then=END_OF_MAIL)

    def to(self, address: str) -> list[EmailMessage]:
        """Return the mails to an address, oldest first."""
        return [mail for whom, mail in list(self._got) if whom == address]

    def heal(self) -> None:
        """Take mails as they come again; what was held is cut."""
        self._proxy.heal()

    def close(self) -> None:
        """End the server and its proxy."""
        self._proxies.close()
        self._server.stop()


def link_in(mail: EmailMessage) -> str:
    """Return the path of the link in a payer's mail."""
    text = mail.get_body(("plain",))
    assert text is not None
    found = LINK.search(text.get_content())
    assert found, text.get_content()
    return found[1]
