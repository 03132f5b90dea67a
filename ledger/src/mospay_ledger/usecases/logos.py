"""The logo of an issuer: proved once that papers can show it, then kept."""

import asyncpg
from mospay_shared.chassis.database import Database, Tx

from mospay_ledger import papers
from mospay_ledger.domain import logos
from mospay_ledger.domain.invoices import InvoiceMissing
from mospay_ledger.storage import customers
from mospay_ledger.storage import logos as storage
from mospay_ledger.storage.customers import View


async def keep(database: Database, view: View, issuer_id: str, content: bytes) -> asyncpg.Record:
    """Make an image the logo of an issuer; return it without its content.

    Raises InvoiceMissing, InvoiceInvalid (what is wrong with the image), papers.PapersBusy.
    """
    async with database.transaction() as tx:
        issuer = await _issuer(tx, view, issuer_id)
    logo = logos.read(content)
    await _show(logo)  # outside of a transaction: it may wait for other papers
    async with database.transaction() as tx:
        return await storage.keep(tx, issuer, logo)


async def drop(tx: Tx, view: View, issuer_id: str) -> None:
    """Take the logo of an issuer away; raises InvoiceMissing."""
    issuer = await _issuer(tx, view, issuer_id)
    if not await storage.drop(tx, issuer["id"]):
        raise InvoiceMissing("the issuer has no logo")


async def _issuer(tx: Tx, view: View, issuer_id: str) -> asyncpg.Record:
    found = await customers.issuer(tx, view, issuer_id)
    if found is None:
        raise InvoiceMissing("there is no such issuer")
    return found


async def _show(logo: logos.Logo) -> None:
    """Set the logo on a paper of its own: what can't be decoded fails here, not on an invoice."""
    shown = {"content": logo.content, "format": logo.format}
    size = {"width": logo.width, "height": logo.height}
    try:
        await papers.render(papers.LOGO, {"issuer": {"name": "", "logo": shown | size}})
    except papers.PaperFailed as error:
        raise logos.corrupt("can't be shown") from error
