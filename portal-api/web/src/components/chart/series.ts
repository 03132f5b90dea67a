/** The outcomes a volume chart stacks, each with its own colour and pattern. */
import type { VolumePoint } from "../../api/model";

export interface Series {
  readonly key: string;
  readonly label: string;
  readonly fill: string;
  readonly stroke: string;
  /** The same fill for a legend, as a CSS background. */
  readonly swatch: string;
  readonly value: (point: VolumePoint) => number;
}

export const SERIES: readonly Series[] = [
  {
    key: "succeeded",
    label: "Succeeded",
    fill: "var(--mp-chart-success)",
    stroke: "var(--mp-chart-success)",
    swatch: "var(--mp-chart-success)",
    value: (point) => point.succeeded,
  },
  {
    key: "failed",
    label: "Failed",
    fill: "url(#mp-failed)",
    stroke: "var(--mp-chart-failed)",
    swatch:
      "repeating-linear-gradient(135deg, var(--mp-chart-failed) 0 2px, var(--mp-failed-bg) 2px 4px)",
    value: (point) => point.failed,
  },
  {
    key: "unknown",
    label: "Unknown",
    fill: "url(#mp-unknown)",
    stroke: "var(--mp-chart-pending)",
    swatch:
      "radial-gradient(var(--mp-chart-pending) 1.3px, var(--mp-pending-bg) 1.5px) 0 0 / 4px 4px",
    value: (point) => point.unknown,
  },
  {
    key: "open",
    label: "Other",
    fill: "var(--mp-surface)",
    stroke: "var(--mp-control)",
    swatch: "var(--mp-surface)",
    value: (point) => Math.max(0, point.payments - point.succeeded - point.failed - point.unknown),
  },
];
