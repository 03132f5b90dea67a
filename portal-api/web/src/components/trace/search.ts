/** What of a payment's page stands in the URL; the hop in view is the fragment. */
export type TraceView = "timeline" | "table" | "json";

export interface TraceSearch {
  /** Absent means the timeline. */
  readonly view?: "table" | "json";
}

export function parseTraceSearch(raw: Record<string, unknown>): TraceSearch {
  return raw.view === "table" || raw.view === "json" ? { view: raw.view } : {};
}
