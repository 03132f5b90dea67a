"""The fact table, for queries whose shape depends on the request."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    MetaData,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import JSONB

payment_facts = Table(
    "payment_facts",
    MetaData(),
    Column("accepted_month", Date, primary_key=True),
    Column("payment_id", Text, primary_key=True),
    Column("client_id", Text),
    Column("app_id", Text),
    Column("mode", Text),
    Column("currency", Text),
    Column("amount_minor", BigInteger),
    Column("status", Text),
    Column("version", BigInteger),
    Column("changed_at", DateTime(timezone=True)),
    Column("accepted_at", DateTime(timezone=True)),
    Column("service", Text),
    Column("route", Text),
    Column("reference", Text),
    Column("provider_reference", Text),
    Column("reason_code", Text),
    Column("reason_message", Text),
    Column("late", Boolean),
    Column("customer_id", Text),
    Column("product_name", Text),
    Column("metadata", JSONB),
    Column("fee_minor", BigInteger),
    Column("net_minor", BigInteger),
)
