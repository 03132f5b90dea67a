/** The key figures of the dashboard, each with its change where one is known. */
import { Skeleton } from "@mantine/core";
import { IconMinus, IconTrendingDown, IconTrendingUp } from "@tabler/icons-react";
import type { ReactNode } from "react";
import type { Audience } from "../../api/model";
import { Money } from "../money/Money";
import classes from "./Dashboard.module.css";
import { type Figured, RANGES } from "./search";

function Change({ ratio }: { readonly ratio: number | null }) {
  if (ratio === null) return <span className={classes.change}>No earlier period to compare</span>;
  const percent = Math.abs(ratio * 100);
  const text = `${percent < 10 ? percent.toFixed(1) : Math.round(percent)} %`;
  const flat = percent < 0.05;
  const Icon = flat ? IconMinus : ratio > 0 ? IconTrendingUp : IconTrendingDown;
  return (
    <span className={classes.change} data-direction={flat ? "flat" : ratio > 0 ? "up" : "down"}>
      <Icon size={14} stroke={2} aria-hidden />
      <b>{flat ? "no change" : `${ratio > 0 ? "up" : "down"} ${text}`}</b> on the period before
    </span>
  );
}

interface FigureProps {
  readonly label: string;
  readonly value: ReactNode;
  readonly children?: ReactNode;
}

function Figure({ label, value, children }: FigureProps) {
  return (
    <div className={classes.figure}>
      <dt>{label}</dt>
      <dd className={classes.value}>{value}</dd>
      {children && <dd className={classes.under}>{children}</dd>}
    </div>
  );
}

const count = (value: number) => value.toLocaleString();

interface Props {
  readonly data: Figured;
  readonly audience: Audience;
}

export function Figures({ data, audience }: Props) {
  const { kpis, currency } = data;
  const words = RANGES.find(({ value }) => value === data.range)?.words ?? "";
  const open = kpis.processing + kpis.unknown;
  return (
    <dl className={classes.figures}>
      <Figure
        label={`Volume, ${words}`}
        value={<Money minor={kpis.volume_minor} currency={currency} size="large" />}
      >
        <Change ratio={kpis.volume_growth} />
      </Figure>
      <Figure label={`Payments, ${words}`} value={count(kpis.payments)}>
        <Change ratio={kpis.payments_growth} />
      </Figure>
      <Figure
        label="Success rate"
        value={kpis.success_rate === null ? "–" : `${(kpis.success_rate * 100).toFixed(1)} %`}
      >
        {count(kpis.succeeded)} succeeded, {count(kpis.failed)} failed
        {open > 0 && `, ${count(open)} open`}
      </Figure>
      <Figure label="Payments today" value={count(kpis.payments_today)}>
        Since midnight, {data.time_zone}
      </Figure>
      {audience === "admin" ? (
        <Figure label="Active clients" value={count(kpis.active_clients)}>
          {count(kpis.active_services)} active {kpis.active_services === 1 ? "service" : "services"}
        </Figure>
      ) : (
        <Figure label="Active services" value={count(kpis.active_services)}>
          Ready to take payments
        </Figure>
      )}
      <Figure label="API calls today" value={count(kpis.api_calls_today)}>
        {audience === "admin" ? "From every client" : "From your own systems"}
      </Figure>
    </dl>
  );
}

export function FiguresSkeleton() {
  return (
    <div className={classes.figures}>
      {["a", "b", "c", "d", "e", "f"].map((key) => (
        <div key={key} className={classes.figure}>
          <Skeleton height={12} width="55%" />
          <Skeleton height={26} width="75%" mt={10} />
          <Skeleton height={12} width="60%" mt={10} />
        </div>
      ))}
    </div>
  );
}
