/** Where each hop of a payment stands in the picture of lanes: pure maths, fractions 0 to 1. */
import type { Hop } from "../../api/model";
import { formatOffset } from "../time/time";

export const LANES = [
  { id: "api", label: "API" },
  { id: "gateway", label: "Gateway" },
  { id: "payment-router", label: "Payment router" },
  { id: "provider", label: "Provider" },
  { id: "ledger", label: "Ledger" },
  { id: "notifier", label: "Notifier" },
  { id: "reporter", label: "Reporter" },
] as const;

/** `even`: every step can be seen, time is compressed. `true`: widths are durations. */
export type ScaleKind = "even" | "true";

/** One hop as an interval of time in milliseconds since the epoch. */
export interface Span {
  readonly hop: Hop;
  readonly lane: string;
  /** Published, or begun where nothing waited. */
  readonly start: number;
  /** Taken from the queue: before it the hop waited, after it the hop was handled. */
  readonly taken: number;
  readonly end: number;
  /** True while the hop has not ended. */
  readonly open: boolean;
  /** True for calls that leave the house. */
  readonly external: boolean;
}

/** The lane a hop is drawn in. */
export function laneOf(hop: Hop): string {
  if (hop.kind === "http") return "api";
  if (hop.kind === "provider_call") return "provider";
  return hop.service;
}

const instant = (iso: string | null): number | null => (iso === null ? null : Date.parse(iso));

/** The interval of a hop; null where it carries no time at all. Ends never precede beginnings. */
export function spanOf(hop: Hop, nowMs: number): Span | null {
  const published = instant(hop.published_at);
  const received = instant(hop.received_at);
  const handled = instant(hop.handled_at);
  const start = published ?? received ?? handled;
  if (start === null) return null;
  const open = handled === null && (hop.outcome === "pending" || hop.outcome === "retry");
  const end = Math.max(start, handled ?? (open ? nowMs : (received ?? start)));
  const taken = Math.min(end, Math.max(start, received ?? (open && published ? end : start)));
  const external = ["http", "provider_call", "delivery"].includes(hop.kind);
  return { hop, lane: laneOf(hop), start, taken, end, open, external };
}

/** A function from time to the fraction of the picture's width, rising and onto 0…1. */
export function timeScale(spans: readonly Span[], kind: ScaleKind): (ms: number) => number {
  const marks = [...new Set(spans.flatMap((span) => [span.start, span.taken, span.end]))].sort(
    (a, b) => a - b,
  );
  const first = marks[0] ?? 0;
  const last = marks.at(-1) ?? 0;
  if (last <= first) return () => 0;
  if (kind === "true") return (ms) => Math.min(1, Math.max(0, (ms - first) / (last - first)));
  // Each stretch between two marks gets room by the logarithm of its length: a wait of minutes
  // doesn't push a millisecond of handling out of sight.
  const ends = [0];
  for (let index = 1; index < marks.length; index += 1) {
    const length = (marks[index] ?? 0) - (marks[index - 1] ?? 0);
    ends.push((ends[index - 1] ?? 0) + 1 + Math.log1p(length));
  }
  const total = ends.at(-1) ?? 1;
  return (ms) => {
    if (ms <= first) return 0;
    if (ms >= last) return 1;
    const right = marks.findIndex((mark) => mark >= ms);
    const [from, to] = [marks[right - 1] ?? first, marks[right] ?? last];
    const [low, high] = [ends[right - 1] ?? 0, ends[right] ?? total];
    return (low + ((ms - from) / (to - from)) * (high - low)) / total;
  };
}

export interface Bar {
  readonly span: Span;
  /** Fractions of the width. */
  readonly from: number;
  readonly taken: number;
  readonly to: number;
  /** Which line of its lane, from 0: hops at the same time don't cover each other. */
  readonly line: number;
}

export interface Lane {
  readonly id: string;
  readonly label: string;
  readonly lines: number;
  readonly bars: readonly Bar[];
}

export interface Tick {
  readonly at: number;
  readonly label: string;
}

export interface Picture {
  readonly lanes: readonly Lane[];
  readonly ticks: readonly Tick[];
  readonly startMs: number;
  readonly totalMs: number;
}

// A bar is drawn at least this wide, so bars nearer than this share no line.
const MIN_WIDTH = 0.018;
const MIN_TICK_GAP = 0.13;

function packLines(bars: Omit<Bar, "line">[]): { bars: Bar[]; lines: number } {
  const ends: number[] = [];
  const placed = bars
    .toSorted((a, b) => a.from - b.from || a.to - b.to)
    .map((bar) => {
      const free = ends.findIndex((end) => end <= bar.from + 1e-9);
      const line = free === -1 ? ends.length : free;
      ends[line] = Math.max(bar.to, bar.from + MIN_WIDTH);
      return { ...bar, line };
    });
  return { bars: placed, lines: Math.max(1, ends.length) };
}

function ticksOf(spans: readonly Span[], scale: (ms: number) => number, startMs: number): Tick[] {
  const ticks: Tick[] = [];
  const marks = [...new Set(spans.flatMap((span) => [span.start, span.end]))].sort((a, b) => a - b);
  const endMs = marks.at(-1) ?? startMs;
  const endAt = scale(endMs);
  for (const mark of marks) {
    const at = scale(mark);
    const crowded = ticks.some((tick) => at - tick.at < MIN_TICK_GAP) || endAt - at < MIN_TICK_GAP;
    if (mark === startMs) ticks.push({ at, label: "0" });
    else if (!crowded || (mark === endMs && endAt - (ticks.at(-1)?.at ?? 0) >= MIN_TICK_GAP / 2)) {
      ticks.push({ at, label: formatOffset(mark - startMs) });
    }
  }
  return ticks;
}

/** The whole picture; lanes keep their order and show even when nothing happened in them. */
export function layoutTrace(hops: readonly Hop[], nowMs: number, kind: ScaleKind): Picture {
  const spans = hops.map((hop) => spanOf(hop, nowMs)).filter((span) => span !== null);
  const startMs = Math.min(...spans.map((span) => span.start), Number.POSITIVE_INFINITY);
  const endMs = Math.max(...spans.map((span) => span.end), Number.NEGATIVE_INFINITY);
  const scale = timeScale(spans, kind);
  const known = new Set<string>(LANES.map((lane) => lane.id));
  const others = [...new Set(spans.map((span) => span.lane))].filter((lane) => !known.has(lane));
  const lanes = [...LANES, ...others.map((id) => ({ id, label: id }))].map(({ id, label }) => {
    const bars = spans
      .filter((span) => span.lane === id)
      .map((span) => ({
        span,
        from: scale(span.start),
        taken: scale(span.taken),
        to: scale(span.end),
      }));
    return { id, label, ...packLines(bars) };
  });
  return {
    lanes,
    ticks: spans.length ? ticksOf(spans, scale, startMs) : [],
    startMs: spans.length ? startMs : nowMs,
    totalMs: spans.length ? endMs - startMs : 0,
  };
}
