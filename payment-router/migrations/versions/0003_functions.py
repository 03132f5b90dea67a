"""Provider function versions: sources, states, options of mappings, the maker of bodies.

Works beside the version before it: new columns have defaults or may be null. The role
mospay_router_run (nologin, granted to mospay_router_fx) must exist: README, "Roles".
"""

from pathlib import Path

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SQL = Path(__file__).resolve().parents[2] / "sql"
STATEMENTS = [
    # Null: what the connector of the service says. `version` counts the changes of these options.
    """alter table provider_functions
        add column final_on_2xx boolean, add column failed_statuses int[],
        add column changed_by text,
        add column changed_at timestamptz not null default clock_timestamp()""",
    "create index provider_functions_changed on provider_functions (changed_at)",
    "create index provider_functions_call on provider_functions (call_name)",
    """create index provider_functions_client
        on provider_functions (client_id, mode, app_id, microservice, service, route)""",
    # `call_name` is the body in schema fx: the plain name for what is there without a version,
    # `name@v3` for what was installed here. `source` is null where the body is our own template.
    """alter table function_versions
        add column client_id text, add column mode text check (mode in ('live', 'test')),
        add column call_name text, add column kind text, add column source text,
        add column author text, add column note text,
        add column reads_secrets boolean not null default false,
        add column passed_at timestamptz, add column tested_at timestamptz,
        add column live_at timestamptz, add column retired_at timestamptz,
        add column previous int, add column act text,
        add column changed_at timestamptz not null default clock_timestamp()""",
    """update function_versions v set call_name = v.name, client_id = m.client_id, mode = m.mode,
            live_at = v.created_at, kind = case v.name when m.call_name then 'call'
                when m.response_name then 'response' when m.enquiry_name then 'enquiry'
                else 'enquiry_response' end
        from provider_functions m
        where v.name in (m.call_name, m.response_name, m.enquiry_name, m.enquiry_response_name)""",
    # The version before this one adds rows without them; such a row is a first version.
    """create function complete_function_version() returns trigger language plpgsql as $$
        begin
            new.call_name := coalesce(new.call_name, new.name);
            return new;
        end $$""",
    """create trigger complete before insert on function_versions
        for each row execute function complete_function_version()""",
    "update function_versions set call_name = name where call_name is null",
    "alter table function_versions alter column call_name set not null",
    "create index function_versions_live_changed on function_versions (changed_at) "
    "where state = 'live'",
    "alter table function_versions enable row level security",
    "alter table function_versions force row level security",
    """create policy tenant on function_versions to mospay_router_app using (
        current_setting('mospay.operator', true) = 'on'
        or (client_id = current_setting('mospay.client_id', true)
            and (mode = current_setting('mospay.mode', true)
                 or current_setting('mospay.mode', true) = '')))""",
    # A replay reads the last calls of one mapping.
    "create index payments_app on payments (app_id, id)",
    "grant select on provider_functions, function_versions to mospay_router_app",
]


def upgrade() -> None:
    """Widen both tables; add the maker of versions' bodies."""
    for statement in STATEMENTS:
        op.execute(statement)
    op.execute("set role mospay_router_fx")
    # Byte for byte what create_default_pair makes: whoever changes that, makes these anew.
    op.execute("select fx.create_default_pair('a_a_a', 'RESPONSE_a_a_a')")
    for made, named in (
        ("a_a_a(text, json)", "template_call"),
        ('"RESPONSE_a_a_a"(text, json, int, json)', "template_response"),
    ):
        op.execute(f"alter function fx.{made} rename to {named}")
    op.execute("reset role")
    _run("0003_defaults_among.sql")  # as the owner, who may read sources
    op.execute("set role mospay_router_fx")
    _run("0003_install_version.sql")
    _run("0003_call.sql")
    op.execute("reset role")


def _run(file: str) -> None:
    connection = op.get_bind()
    for part in (SQL / file).read_text().split("-- next\n"):
        connection.exec_driver_sql(part)


def downgrade() -> None:
    """Not offered: a released database is never dropped by a tool."""
    raise NotImplementedError
