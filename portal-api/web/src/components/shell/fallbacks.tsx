/** What stands in for a page: one that doesn't exist, one that failed. */
import { Button, Group } from "@mantine/core";
import { IconError404 } from "@tabler/icons-react";
import { type ErrorComponentProps, Link, useRouter } from "@tanstack/react-router";
import type { Audience } from "../../api/model";
import { EmptyState, FailureState } from "../states/states";
import { DASHBOARD, TRANSACTIONS } from "./navigation";
import { useTitle } from "./PageHead";

export function NotFound({ audience = "client" }: { readonly audience?: Audience }) {
  useTitle("Page not found");
  return (
    <EmptyState
      page
      title="This page doesn't exist"
      icon={IconError404}
      action={
        <Group gap={8} justify="center">
          <Button component={Link} to={DASHBOARD[audience]}>
            Go to the dashboard
          </Button>
          <Button component={Link} to={TRANSACTIONS[audience]} variant="default">
            Find a payment
          </Button>
        </Group>
      }
    >
      The address may be mistyped, or the page has moved.
    </EmptyState>
  );
}

/** Shown while a page's first answers are on their way. */
export function Waiting() {
  return <div className="boot" role="status" aria-label="Loading" />;
}

export function PageFailure({ error }: ErrorComponentProps) {
  const router = useRouter();
  return <FailureState error={error} onRetry={() => void router.invalidate()} />;
}
