/** One payment: what happened in plain words, its trace in three views, books and webhooks; live. */
import { Button, SegmentedControl, Skeleton } from "@mantine/core";
import { useThrottledCallback } from "@mantine/hooks";
import { IconAlertTriangle, IconReceiptOff } from "@tabler/icons-react";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useLocation, useNavigate } from "@tanstack/react-router";
import { useEffect, useMemo } from "react";
import type { Trace } from "../../api/model";
import { isProblem } from "../../api/problem";
import { paymentQuery, traceQuery } from "../../api/queries";
import { useLiveEvents } from "../live/LiveProvider";
import { meaningOf } from "../payment/status";
import { TRANSACTIONS } from "../shell/navigation";
import { usePortal } from "../shell/portal";
import { Card } from "../states/Card";
import { EmptyState, QueryState } from "../states/states";
import { useNow } from "../time/useNow";
import { anchorOf, HopList } from "./HopList";
import { HopTable } from "./HopTable";
import { Lanes } from "./Lanes";
import { spanOf } from "./layout";
import { serviceWord } from "./outcomes";
import { AttemptsPanel, DeliveriesPanel, LedgerPanel } from "./Panels";
import { PaymentHead } from "./PaymentHead";
import type { TraceView } from "./search";
import classes from "./Trace.module.css";

const REFRESH_MS = 700;
// The stream tells of the payment's state only; what ledger, notifier and reporter add comes after.
const POLL_MS = 3_000;

/** True while something of the trace is still to come. */
export function isMoving(trace: Trace): boolean {
  return (
    !meaningOf(trace.payment.status).final ||
    trace.missing.length > 0 ||
    trace.hops.some((hop) => hop.outcome === "pending" || hop.outcome === "retry") ||
    trace.deliveries.some((delivery) => delivery.next_at !== null)
  );
}

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

interface TraceCardProps {
  readonly trace: Trace;
  readonly view: TraceView;
  readonly onView: (view: TraceView) => void;
}

function TraceCard({ trace, view, onView }: TraceCardProps) {
  const nowMs = useNow(1_000, isMoving(trace));
  const hash = useLocation({ select: (location) => location.hash });
  const navigate = useNavigate();
  const chosen = trace.hops.find((hop) => anchorOf(hop.id) === hash)?.id ?? null;
  const missing = useMemo(
    () => new Set(trace.missing.map(({ service }) => service)),
    [trace.missing],
  );
  const unavailable = useMemo(
    () => new Set(trace.unavailable.map(({ service }) => service)),
    [trace.unavailable],
  );
  const startMs = useMemo(
    () => Math.min(...trace.hops.map((hop) => spanOf(hop, 0)?.start ?? Number.POSITIVE_INFINITY)),
    [trace.hops],
  );
  const shown = view === "timeline";
  useEffect(() => {
    if (chosen && shown)
      document.getElementById(anchorOf(chosen))?.scrollIntoView({ block: "center" });
  }, [chosen, shown]);
  const choose = (hopId: string) =>
    void navigate({
      to: ".",
      search: true,
      hash: anchorOf(hopId),
      replace: true,
      resetScroll: false,
      hashScrollIntoView: false,
    });
  return (
    <Card
      flush
      title="Trace"
      note={`${trace.hops.length} ${trace.hops.length === 1 ? "step" : "steps"} across the services`}
      actions={
        <SegmentedControl
          size="xs"
          aria-label="View of the trace"
          value={view}
          onChange={(value) => onView(value as TraceView)}
          data={[
            { value: "timeline", label: "Timeline" },
            { value: "table", label: "Table" },
            { value: "json", label: "JSON" },
          ]}
        />
      }
    >
      {shown && (
        <>
          <div className={classes.lanesPlace}>
            <Lanes
              hops={trace.hops}
              nowMs={nowMs}
              missing={missing}
              unavailable={unavailable}
              chosen={chosen}
              onChoose={choose}
            />
          </div>
          <HopList
            hops={trace.hops}
            missing={trace.missing}
            startMs={startMs}
            nowMs={nowMs}
            asOfMs={Date.parse(trace.as_of)}
            chosen={chosen}
          />
        </>
      )}
      {view === "table" && <HopTable hops={trace.hops} nowMs={nowMs} />}
      {view === "json" && (
        <pre className={classes.json} tabIndex={0}>
          {JSON.stringify(trace, null, 2)}
        </pre>
      )}
    </Card>
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
