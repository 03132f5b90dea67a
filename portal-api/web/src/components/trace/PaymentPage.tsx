/** One payment: what happened in plain words, its trace in three views, books and webhooks; live. */
import { Button, Skeleton } from "@mantine/core";
import { useThrottledCallback } from "@mantine/hooks";
import { IconAlertTriangle, IconReceiptOff } from "@tabler/icons-react";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import type { Trace } from "../../api/model";
import { isProblem } from "../../api/problem";
import { paymentQuery, traceQuery } from "../../api/queries";
import { useLiveEvents } from "../live/LiveProvider";
import { TRANSACTIONS } from "../shell/navigation";
import { usePortal } from "../shell/portal";
import { Card } from "../states/Card";
import { EmptyState, QueryState } from "../states/states";
import { useNow } from "../time/useNow";
import { isMoving } from "./moving";
import { serviceWord } from "./outcomes";
import { AttemptsPanel, DeliveriesPanel, LedgerPanel } from "./Panels";
import { PaymentHead } from "./PaymentHead";
import type { TraceView } from "./search";
import classes from "./Trace.module.css";
import { TraceCard } from "./TraceCard";

const REFRESH_MS = 700;
// The stream tells of the payment's state only; what ledger, notifier and reporter add comes after.
const POLL_MS = 3_000;

function Gaps({ trace }: { readonly trace: Trace }) {
  if (!trace.unavailable.length) return null;
  return (
    <div className={classes.gaps} role="status">
      <IconAlertTriangle size={17} stroke={1.9} aria-hidden />
      <ul>
        {trace.unavailable.map(({ service, detail }) => (
          <li key={service}>
            <b>{serviceWord(service)}</b> could not be asked{detail ? `: ${detail}` : ""}. Its steps
            are not shown.
          </li>
        ))}
      </ul>
    </div>
  );
}

function PaymentSkeleton() {
  return (
    <div className={classes.page}>
      <Skeleton height={190} />
      <Card>
        <Skeleton height={420} />
      </Card>
    </div>
  );
}

interface Props {
  readonly id: string;
  readonly view: TraceView;
  readonly onView: (view: TraceView) => void;
}

export function PaymentPage({ id, view, onView }: Props) {
  const { audience } = usePortal();
  const queryClient = useQueryClient();
  const query = useQuery({
    ...traceQuery(id),
    refetchInterval: ({ state }) => (state.data && isMoving(state.data) ? POLL_MS : false),
  });
  const refresh = useThrottledCallback(() => {
    void queryClient.invalidateQueries(traceQuery(id));
    void queryClient.invalidateQueries(paymentQuery(id));
  }, REFRESH_MS);
  useLiveEvents((event) => {
    if (event.kind === "reset" || event.payment.id === id) refresh();
  });
  const nowMs = useNow(1_000, query.data ? isMoving(query.data) : false);
  if (isProblem(query.error, 404)) {
    return (
      <EmptyState
        page
        title="No such payment"
        icon={IconReceiptOff}
        action={
          <Button component={Link} to={TRANSACTIONS[audience]} variant="default">
            All payments
          </Button>
        }
      >
        Nothing is known of <code className={classes.wrap}>{id}</code>, or it belongs to somebody
        else.
      </EmptyState>
    );
  }
  return (
    <QueryState query={query} skeleton={<PaymentSkeleton />}>
      {(trace) => (
        <div className={classes.page}>
          <PaymentHead trace={trace} />
          <Gaps trace={trace} />
          <TraceCard trace={trace} view={view} onView={onView} />
          <div className={classes.panels}>
            <LedgerPanel entries={trace.entries} />
            <DeliveriesPanel deliveries={trace.deliveries} nowMs={nowMs} />
            <AttemptsPanel payment={trace.payment} />
          </div>
        </div>
      )}
    </QueryState>
  );
}
