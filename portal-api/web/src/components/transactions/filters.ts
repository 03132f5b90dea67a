/** The transactions list's filters, sort and columns as they stand in the URL. Pure. */
import type { PaymentsParams } from "../../api/queries";
import { formatMoney, parseDecimal } from "../money/money";
import { meaningOf, STATUSES } from "../payment/status";

export const SORTS = [
  "-accepted_at",
  "accepted_at",
  "-amount",
  "amount",
  "status",
  "service",
] as const;
export type Sort = (typeof SORTS)[number];
export const DEFAULT_SORT: Sort = "-accepted_at";

/** Every key is optional text, so that a URL stays short and readable. */
export interface TransactionSearch {
  readonly q?: string;
  /** Comma list of payment states. */
  readonly status?: string;
  /** Comma list of service names. */
  readonly service?: string;
  /** A local day (`2026-11-12`) or an instant; `to` as a day includes that day. */
  readonly from?: string;
  readonly to?: string;
  /** Decimal amounts as typed, in the currency of the chosen client. */
  readonly min?: string;
  readonly max?: string;
  readonly sort?: Sort;
  readonly cursor?: string;
  /** Comma list of column ids; absent means the default columns. */
  readonly cols?: string;
}

const DAY = /^\d{4}-\d{2}-\d{2}$/;
const MAX_TEXT = 200;

export function splitList(text: string | undefined): string[] {
  return text ? text.split(",").filter(Boolean) : [];
}

export function joinList(values: readonly string[]): string | undefined {
  return values.length ? [...new Set(values)].join(",") : undefined;
}

function text(raw: unknown): string | undefined {
  const value = typeof raw === "string" || typeof raw === "number" ? String(raw).trim() : "";
  return value && value.length <= MAX_TEXT ? value : undefined;
}

function day(raw: unknown): string | undefined {
  const value = text(raw);
  if (!value) return undefined;
  return Number.isNaN(new Date(DAY.test(value) ? `${value}T00:00` : value).getTime())
    ? undefined
    : value;
}

function amount(raw: unknown): string | undefined {
  const value = text(raw);
  return value && /^\d{1,13}(\.\d{1,3})?$/.test(value) ? value : undefined;
}

/** Keep what is valid of a URL's search and drop the rest: a mangled link still opens the list. */
export function parseTransactionSearch(raw: Record<string, unknown>): TransactionSearch {
  const sort = text(raw.sort);
  const all: { [K in keyof TransactionSearch]: TransactionSearch[K] } = {
    q: text(raw.q),
    status: joinList(splitList(text(raw.status)).filter((status) => status in STATUSES)),
    service: joinList(splitList(text(raw.service))),
    from: day(raw.from),
    to: day(raw.to),
    min: amount(raw.min),
    max: amount(raw.max),
    sort: SORTS.find((known) => known === sort && known !== DEFAULT_SORT),
    cursor: text(raw.cursor),
    cols: joinList(splitList(text(raw.cols))),
  };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
}

/** Start of a local day, or the instant itself. */
function fromInstant(value: string): string {
  return new Date(DAY.test(value) ? `${value}T00:00` : value).toISOString();
}

/** The first instant after a local day, or the instant itself: `to` is exclusive on the wire. */
function toInstant(value: string): string {
  if (!DAY.test(value)) return new Date(value).toISOString();
  const end = new Date(`${value}T00:00`);
  end.setDate(end.getDate() + 1);
  return end.toISOString();
}

export interface ListScope {
  readonly mode: PaymentsParams["mode"];
  readonly client_id?: string;
  /** Currency of every app in view, or null when they differ: then amounts can't be compared. */
  readonly currency: string | null;
  readonly limit: number;
}

/** What the API is asked for a search in a scope. */
export function toPaymentsParams(search: TransactionSearch, scope: ListScope): PaymentsParams {
  const minor = (value: string | undefined) =>
    value && scope.currency ? (parseDecimal(value, scope.currency) ?? undefined) : undefined;
  const all: { [K in keyof PaymentsParams]: PaymentsParams[K] } = {
    mode: scope.mode,
    client_id: scope.client_id,
    status: search.status,
    service: search.service,
    from: search.from && fromInstant(search.from),
    to: search.to && toInstant(search.to),
    min_minor: minor(search.min),
    max_minor: minor(search.max),
    q: search.q,
    sort: search.sort ?? DEFAULT_SORT,
    limit: scope.limit,
    cursor: search.cursor,
  };
  return Object.fromEntries(
    Object.entries(all).filter(([, value]) => value !== undefined),
  ) as unknown as PaymentsParams;
}

export interface FilterChip {
  readonly id: string;
  readonly label: string;
  /** What to change in the search to take this filter away. */
  readonly clear: Partial<Record<keyof TransactionSearch, string | undefined>>;
}

const INSTANT = new Intl.DateTimeFormat(undefined, {
  day: "numeric",
  month: "short",
  hour: "2-digit",
  minute: "2-digit",
});
const WHOLE_DAY = new Intl.DateTimeFormat(undefined, {
  day: "numeric",
  month: "short",
  year: "numeric",
});

function dayLabel(value: string): string {
  return DAY.test(value)
    ? WHOLE_DAY.format(new Date(`${value}T00:00`))
    : INSTANT.format(new Date(value));
}

function amountLabel(value: string, currency: string | null): string {
  const minor = currency && parseDecimal(value, currency);
  return currency && typeof minor === "number" ? formatMoney(minor, currency) : value;
}

/** The active filters, one chip each, in the order of the filter bar. */
export function activeFilters(search: TransactionSearch, currency: string | null): FilterChip[] {
  const chips: FilterChip[] = [];
  const { q, from, to, min, max } = search;
  if (q) chips.push({ id: "q", label: `“${q}”`, clear: { q: undefined } });
  const statuses = splitList(search.status);
  for (const status of statuses) {
    const rest = joinList(statuses.filter((other) => other !== status));
    chips.push({ id: `status-${status}`, label: meaningOf(status).word, clear: { status: rest } });
  }
  const services = splitList(search.service);
  for (const service of services) {
    const rest = joinList(services.filter((other) => other !== service));
    chips.push({ id: `service-${service}`, label: service, clear: { service: rest } });
  }
  if (from) chips.push({ id: "from", label: `From ${dayLabel(from)}`, clear: { from: undefined } });
  if (to) chips.push({ id: "to", label: `Until ${dayLabel(to)}`, clear: { to: undefined } });
  if (min)
    chips.push({
      id: "min",
      label: `At least ${amountLabel(min, currency)}`,
      clear: { min: undefined },
    });
  if (max)
    chips.push({
      id: "max",
      label: `At most ${amountLabel(max, currency)}`,
      clear: { max: undefined },
    });
  return chips;
}

/** Apply a change: an undefined value removes its key, and the page starts over at the first. */
export function patchSearch(
  search: TransactionSearch,
  patch: Partial<Record<keyof TransactionSearch, string | undefined>>,
): TransactionSearch {
  return parseTransactionSearch({ ...search, cursor: undefined, ...patch });
}

/** The same columns, sort and nothing else: what “clear all” leaves. */
export function withoutFilters(search: TransactionSearch): TransactionSearch {
  return parseTransactionSearch({ sort: search.sort, cols: search.cols });
}

/** The sort after a click on a column's header: its first order, its other one, the default. */
export function nextSort(
  current: Sort,
  column: "accepted_at" | "amount" | "status" | "service",
): Sort {
  if (column === "status" || column === "service")
    return current === column ? DEFAULT_SORT : column;
  return current === `-${column}` ? column : `-${column}`;
}
