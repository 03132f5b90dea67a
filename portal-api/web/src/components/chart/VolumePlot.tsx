/** The volume picture: payments by outcome as stacked bars, or the amount that succeeded. */
import {
  Area,
  AreaChart,
  Bar,
  BarChart,
  CartesianGrid,
  ResponsiveContainer,
  Tooltip,
  XAxis,
  YAxis,
} from "recharts";
import type { VolumePoint } from "../../api/model";
import { compactMoney, formatMoney } from "../money/money";
import classes from "./Chart.module.css";
import { SERIES } from "./series";

interface Props {
  readonly points: readonly VolumePoint[];
  readonly measure: "payments" | "amount";
  readonly currency: string;
  readonly labelOf: (point: VolumePoint) => string;
  readonly onPick: (point: VolumePoint) => void;
}

interface TipProps extends Pick<Props, "currency" | "labelOf"> {
  readonly active?: boolean;
  readonly payload?: readonly { payload?: VolumePoint }[];
}

function Tip({ active, payload, currency, labelOf }: TipProps) {
  const point = payload?.[0]?.payload;
  if (!active || !point) return null;
  return (
    <div className={classes.tip}>
      <strong>{labelOf(point)}</strong>
      {SERIES.map(({ key, label, value }) => (
        <div key={key}>
          <span>{label}</span>
          <span>{value(point).toLocaleString()}</span>
        </div>
      ))}
      <div>
        <span>Volume</span>
        <span>{formatMoney(point.volume_minor, currency)}</span>
      </div>
    </div>
  );
}

/** Fills that differ by pattern as well as by colour. */
function Patterns() {
  return (
    <defs>
      <pattern
        id="mp-failed"
        width="6"
        height="6"
        patternUnits="userSpaceOnUse"
        patternTransform="rotate(45)"
      >
        <rect width="6" height="6" fill="var(--mp-failed-bg)" />
        <rect width="3.4" height="6" fill="var(--mp-chart-failed)" />
      </pattern>
      <pattern id="mp-unknown" width="5" height="5" patternUnits="userSpaceOnUse">
        <rect width="5" height="5" fill="var(--mp-pending-bg)" />
        <circle cx="2.5" cy="2.5" r="1.6" fill="var(--mp-chart-pending)" />
      </pattern>
    </defs>
  );
}

const AXIS = { tickLine: false, axisLine: false, tick: { fill: "var(--mp-muted)", fontSize: 12 } };

export default function VolumePlot({ points, measure, currency, labelOf, onPick }: Props) {
  const data = points.map((point) => ({ ...point, label: labelOf(point) }));
  const pick = (state: { activeTooltipIndex?: number | string | null }) => {
    const point = points[Number(state.activeTooltipIndex ?? -1)];
    if (point) onPick(point);
  };
  const shared = (
    <>
      <CartesianGrid vertical={false} stroke="var(--mp-line)" />
      <XAxis dataKey="label" {...AXIS} minTickGap={28} tickMargin={8} interval="preserveStartEnd" />
      <Tooltip
        isAnimationActive={false}
        cursor={{ fill: "var(--mp-raised)", stroke: "var(--mp-line)" }}
        content={<Tip currency={currency} labelOf={labelOf} />}
      />
    </>
  );
  const margin = { top: 8, right: 4, bottom: 0, left: 0 };
  return (
    <ResponsiveContainer width="100%" height="100%">
      {measure === "payments" ? (
        <BarChart
          data={data}
          margin={margin}
          onClick={pick}
          accessibilityLayer={false}
          maxBarSize={36}
        >
          <Patterns />
          {shared}
          <YAxis {...AXIS} width={40} allowDecimals={false} />
          {SERIES.map(({ key, fill, stroke, value }) => (
            <Bar
              key={key}
              dataKey={value}
              stackId="outcome"
              fill={fill}
              stroke={stroke}
              isAnimationActive={false}
              cursor="pointer"
            />
          ))}
        </BarChart>
      ) : (
        <AreaChart data={data} margin={margin} onClick={pick} accessibilityLayer={false}>
          {shared}
          <YAxis
            {...AXIS}
            width={52}
            tickFormatter={(minor: number) => compactMoney(minor, currency)}
          />
          <Area
            dataKey="volume_minor"
            type="monotone"
            stroke="var(--mp-chart-volume)"
            strokeWidth={2}
            fill="var(--mp-primary-soft)"
            isAnimationActive={false}
          />
        </AreaChart>
      )}
    </ResponsiveContainer>
  );
}
