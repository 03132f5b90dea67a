/** What of the dashboard stands in the URL. */
import type { Dashboard, DashboardRange } from "../../api/model";

export interface DashboardSearch {
  /** Absent means 7 days. */
  readonly range?: DashboardRange;
  readonly currency?: string;
}

/** The figures with a currency to show them in, also where nothing has been paid yet. */
export type Figured = Dashboard & { readonly currency: string };

// ISO 4217: no currency is involved.
const NO_CURRENCY = "XXX";

export function inCurrency(data: Dashboard, fallback: string | undefined): Figured {
  return { ...data, currency: data.currency ?? fallback ?? NO_CURRENCY };
}

export const RANGES: readonly { value: DashboardRange; label: string; words: string }[] = [
  { value: "24h", label: "24 h", words: "last 24 hours" },
  { value: "7d", label: "7 days", words: "last 7 days" },
  { value: "30d", label: "30 days", words: "last 30 days" },
];

export function parseDashboardSearch(raw: Record<string, unknown>): DashboardSearch {
  const search: { range?: DashboardRange; currency?: string } = {};
  const range = RANGES.find(({ value }) => value === raw.range);
  if (range) search.range = range.value;
  if (typeof raw.currency === "string" && /^[A-Z]{3}$/.test(raw.currency)) {
    search.currency = raw.currency;
  }
  return search;
}
