/** The dashboard of both portals: figures, volume, outcomes, the last payments; live. */
import { Button, SegmentedControl, Select, Skeleton } from "@mantine/core";
import { useThrottledCallback } from "@mantine/hooks";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import type { Dashboard, DashboardRange } from "../../api/model";
import { dashboardQuery } from "../../api/queries";
import { useLiveEvents } from "../live/LiveProvider";
import { PaymentTable } from "../payment/PaymentTable";
import { TRANSACTIONS } from "../shell/navigation";
import { PageHead } from "../shell/PageHead";
import { usePortal } from "../shell/portal";
import { Card } from "../states/Card";
import { EmptyState, QueryState } from "../states/states";
import { formatClock } from "../time/time";
import { Checklist } from "./Checklist";
import classes from "./Dashboard.module.css";
import { Figures, FiguresSkeleton } from "./Figures";
import { Outcomes } from "./Outcomes";
import { type DashboardSearch, inCurrency, RANGES } from "./search";
import { VolumeCard } from "./VolumeCard";

// Payments can arrive many a second; the figures need not move faster than a person reads.
const REFRESH_MS = 2_500;

interface Props {
  readonly search: DashboardSearch;
  readonly onSearch: (patch: DashboardSearch) => void;
}

function Recent({ data }: { readonly data: Dashboard }) {
  const { audience, clientId, session } = usePortal();
  const manyClients = !clientId && new Set(session.apps.map((app) => app.client_id)).size > 1;
  const columns = [
    "accepted_at",
    "reference",
    ...(manyClients ? ["client_name"] : []),
    "service",
    "status",
    "amount",
  ];
  return (
    <Card
      flush
      title="Recent payments"
      actions={
        <Button component={Link} to={TRANSACTIONS[audience]} variant="subtle" size="compact-sm">
          View all
        </Button>
      }
    >
      {data.recent.length ? (
        <PaymentTable rows={data.recent} columns={columns} label="Recent payments" />
      ) : (
        <EmptyState title="No payments yet">
          They appear here as soon as they are accepted.
        </EmptyState>
      )}
    </Card>
  );
}

function DashboardSkeleton() {
  return (
    <div className={classes.page}>
      <Card>
        <FiguresSkeleton />
      </Card>
      <div className={classes.columns}>
        <Card>
          <Skeleton height={300} />
        </Card>
        <Card>
          <Skeleton height={300} />
        </Card>
      </div>
      <Card>
        <Skeleton height={360} />
      </Card>
    </div>
  );
}

function Content({ data: answer }: { readonly data: Dashboard }) {
  const { audience, apps } = usePortal();
  const data = inCurrency(answer, apps[0]?.currency);
  const empty = data.kpis.payments === 0 && data.recent.length === 0;
  return (
    <div className={classes.page}>
      <Card flush className={classes.figuresCard}>
        <Figures data={data} audience={audience} />
      </Card>
      {empty ? (
        <Checklist />
      ) : (
        <>
          <div className={classes.columns}>
            <VolumeCard data={data} />
            <Outcomes data={data} />
          </div>
          <Recent data={data} />
        </>
      )}
    </div>
  );
}

export function DashboardPage({ search, onSearch }: Props) {
  const { audience, mode, clientId } = usePortal();
  const queryClient = useQueryClient();
  const { range = "7d", currency } = search;
  const query = useQuery(
    dashboardQuery({
      mode,
      range,
      ...(clientId ? { client_id: clientId } : {}),
      ...(currency ? { currency } : {}),
    }),
  );
  const refresh = useThrottledCallback(
    () => void queryClient.invalidateQueries({ queryKey: ["dashboard"] }),
    REFRESH_MS,
  );
  useLiveEvents((event) => {
    const other = event.kind === "payment" && event.payment.mode !== mode;
    if (!other) refresh();
  });
  const currencies = query.data?.currencies ?? [];
  return (
    <>
      <PageHead
        title={audience === "admin" ? "Overview" : "Home"}
        note={query.data ? `As of ${formatClock(query.data.as_of)}` : " "}
      >
        {currencies.length > 1 && (
          <Select
            aria-label="Currency"
            size="xs"
            w={90}
            allowDeselect={false}
            data={currencies}
            value={query.data?.currency ?? null}
            onChange={(value) => value && onSearch({ currency: value })}
          />
        )}
        <SegmentedControl
          size="xs"
          aria-label="Period"
          value={range}
          onChange={(value) => onSearch({ range: value as DashboardRange })}
          data={RANGES.map(({ value, label }) => ({ value, label }))}
        />
      </PageHead>
      <QueryState query={query} skeleton={<DashboardSkeleton />}>
        {(data) => <Content data={data} />}
      </QueryState>
    </>
  );
}
