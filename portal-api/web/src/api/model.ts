/** The bodies the pages work with, named once; their shapes come from the server's own document. */
import type { components } from "./schema";

/**
 * As the server sends it: every key is there. The document calls a key optional where it has a
 * default, which is about what a request may leave out.
 */
export type Sent<T> = T extends (infer Item)[]
  ? Sent<Item>[]
  : T extends object
    ? { [Key in keyof T]-?: Sent<Exclude<T[Key], undefined>> }
    : T;

type Schemas = components["schemas"];

export type Mode = "live" | "test";
export type Audience = "client" | "admin";
export type DashboardRange = "24h" | "7d" | "30d";

export type Session = Sent<Schemas["Session"]>;
export type App = Session["apps"][number];
export type PaymentRow = Sent<Schemas["PaymentRow"]>;
export type PaymentPage = Sent<Schemas["PaymentPage"]>;
export type Dashboard = Sent<Schemas["Dashboard"]>;
export type VolumePoint = Dashboard["volume"][number];
export type Trace = Sent<Schemas["PaymentTrace"]>;
export type Hop = Trace["hops"][number];
export type Delivery = Trace["deliveries"][number];
export type LedgerEntry = Trace["entries"][number];

/** An RFC 9457 problem, with what a refused sign-in adds. */
export interface Problem {
  readonly title: string;
  readonly status: number;
  readonly code: string;
  readonly detail?: string | null;
  readonly request_id?: string | null;
  readonly attempts_left?: number;
  readonly locked_until?: string;
}

/** What the live stream says of a payment that changed. */
export interface PaymentChange {
  readonly id: string;
  readonly client_id: string;
  readonly mode: string;
  readonly status: string;
  readonly amount_minor: number;
  readonly currency: string;
  readonly service: string;
  readonly version: number;
  readonly updated_at: string;
}
