/** The outcomes a volume chart stacks, each with its own colour and pattern. */
import type { VolumePoint } from "../../api/model";

export interface Series {
  readonly key: string;
  readonly label: string;
  readonly fill: string;
  readonly stroke: string;
  readonly value: (point: VolumePoint) => number;
}

export const SERIES: readonly Series[] = [
  {
    key: "succeeded",
    label: "Succeeded",
    fill: "var(--mp-chart-success)",
    stroke: "var(--mp-chart-success)",
    value: (point) => point.succeeded,
  },
  {
    key: "failed",
    label: "Failed",
    fill: "url(#mp-failed)",
    stroke: "var(--mp-chart-failed)",
    value: (point) => point.failed,
  },
  {
    key: "unknown",
    label: "Unknown",
    fill: "url(#mp-unknown)",
    stroke: "var(--mp-chart-pending)",
    value: (point) => point.unknown,
  },
  {
    key: "open",
    label: "Other",
    fill: "var(--mp-surface)",
    stroke: "var(--mp-control)",
    value: (point) => Math.max(0, point.payments - point.succeeded - point.failed - point.unknown),
  },
];
