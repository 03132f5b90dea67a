/** The volume chart of the dashboard: payments or amount over time, a click leads to the list. */
import { SegmentedControl, Skeleton } from "@mantine/core";
import { Link, useNavigate } from "@tanstack/react-router";
import { lazy, Suspense, useMemo, useState } from "react";
import type { Dashboard, VolumePoint } from "../../api/model";
import { Chart } from "../chart/Chart";
import { SERIES } from "../chart/series";
import { formatMoney } from "../money/money";
import { TRANSACTIONS } from "../shell/navigation";
import { usePortal } from "../shell/portal";
import type { Figured } from "./search";

const VolumePlot = lazy(() => import("../chart/VolumePlot"));
const HOUR_MS = 3_600_000;

function labeller(granularity: Dashboard["granularity"], timeZone: string) {
  const format = new Intl.DateTimeFormat(
    undefined,
    granularity === "hour"
      ? { hour: "2-digit", minute: "2-digit", timeZone, hourCycle: "h23" }
      : { day: "numeric", month: "short", timeZone },
  );
  return (point: VolumePoint) => format.format(new Date(point.at));
}

function summarize(data: Dashboard, labelOf: (point: VolumePoint) => string): string {
  const { payments, succeeded, failed } = data.kpis;
  const peak = data.volume.reduce<VolumePoint | null>(
    (best, point) => (point.payments > (best?.payments ?? 0) ? point : best),
    null,
  );
  const count = payments === 1 ? "1 payment" : `${payments.toLocaleString()} payments`;
  const most = peak ? ` Most at ${labelOf(peak)}: ${peak.payments.toLocaleString()}.` : "";
  return `${count}, ${succeeded.toLocaleString()} succeeded and ${failed.toLocaleString()} failed.${most}`;
}

/** The span of time a point stands for, for the list's filter. */
function spanOf(point: VolumePoint, granularity: Dashboard["granularity"]) {
  const from = new Date(point.at);
  const to = new Date(from.getTime() + (granularity === "hour" ? HOUR_MS : 24 * HOUR_MS));
  return { from: from.toISOString(), to: to.toISOString() };
}

function Legend({ data }: { readonly data: Figured }) {
  const present = SERIES.filter(({ value }) => data.volume.some((point) => value(point) > 0));
  return present.map(({ key, label, swatch, stroke }) => (
    <span key={key}>
      <i style={{ background: swatch, borderColor: stroke }} />
      {label}
    </span>
  ));
}

export function VolumeCard({ data }: { readonly data: Figured }) {
  const { audience } = usePortal();
  const navigate = useNavigate();
  const [measure, setMeasure] = useState<"payments" | "amount">("payments");
  const labelOf = useMemo(
    () => labeller(data.granularity, data.time_zone),
    [data.granularity, data.time_zone],
  );
  const listOf = (point: VolumePoint) => spanOf(point, data.granularity);
  return (
    <Chart
      title="Payment volume"
      summary={summarize(data, labelOf)}
      rows={data.volume}
      rowKey={(point) => point.at}
      columns={[
        {
          label: data.granularity === "hour" ? "Hour" : "Day",
          cell: (point) => (
            <Link to={TRANSACTIONS[audience]} search={listOf(point)}>
              {labelOf(point)}
            </Link>
          ),
        },
        ...SERIES.map(({ label, value }) => ({
          label,
          numeric: true,
          cell: (point: VolumePoint) => value(point).toLocaleString(),
        })),
        {
          label: "Volume",
          numeric: true,
          cell: (point) => formatMoney(point.volume_minor, data.currency),
        },
      ]}
      actions={
        <SegmentedControl
          size="xs"
          aria-label="Measure"
          value={measure}
          onChange={(value) => setMeasure(value as typeof measure)}
          data={[
            { value: "payments", label: "Payments" },
            { value: "amount", label: data.currency },
          ]}
        />
      }
      legend={measure === "payments" && <Legend data={data} />}
    >
      <Suspense fallback={<Skeleton height="100%" />}>
        <VolumePlot
          points={data.volume}
          measure={measure}
          currency={data.currency}
          labelOf={labelOf}
          onPick={(point) => void navigate({ to: TRANSACTIONS[audience], search: listOf(point) })}
        />
      </Suspense>
    </Chart>
  );
}
