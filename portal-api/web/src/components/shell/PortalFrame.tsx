/** A portal around its pages: the session's rights, the live stream, the shell. */
import { Button, Group } from "@mantine/core";
import { IconLock } from "@tabler/icons-react";
import { Link, Outlet, useRouteContext } from "@tanstack/react-router";
import type { Audience, Session } from "../../api/model";
import { LiveProvider } from "../live/LiveProvider";
import { EmptyState } from "../states/states";
import { DASHBOARD, LOGIN } from "./navigation";
import { PortalProvider } from "./portal";
import { Shell } from "./Shell";
import classes from "./Shell.module.css";

const NAMES: Record<Audience, string> = { client: "client portal", admin: "operator console" };

function WrongPortal({
  session,
  audience,
}: {
  readonly session: Session;
  readonly audience: Audience;
}) {
  const own: Audience = session.user.audience === "admin" ? "admin" : "client";
  return (
    <main className={classes.alone}>
      <EmptyState
        page
        title={`This account has no access to the ${NAMES[audience]}`}
        icon={IconLock}
        action={
          <Group gap={8} justify="center">
            <Button component={Link} to={DASHBOARD[own]}>
              Open the {NAMES[own]}
            </Button>
            <Button component={Link} to={LOGIN[audience]} variant="default">
              Sign in as somebody else
            </Button>
          </Group>
        }
      >
        You are signed in as {session.user.email}. An operator administrator can grant access.
      </EmptyState>
    </main>
  );
}

export function PortalFrame({ audience }: { readonly audience: Audience }) {
  const { session, firstMode = "live" } = useRouteContext({ strict: false });
  if (!session) return null;
  if (session.user.audience !== audience)
    return <WrongPortal session={session} audience={audience} />;
  return (
    <PortalProvider audience={audience} session={session} firstMode={firstMode}>
      <LiveProvider>
        <Shell>
          <Outlet />
        </Shell>
      </LiveProvider>
    </PortalProvider>
  );
}
