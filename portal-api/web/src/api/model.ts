/** The bodies the pages work with, named once. */
import type { components } from "./schema";

type Schemas = components["schemas"];

export type Session = Schemas["Session"];
export type App = Schemas["App"];
export type Mode = App["mode"];
export type Audience = Session["user"]["audience"];
export type PaymentRow = Schemas["PaymentRow"];
export type PaymentDetail = Schemas["PaymentDetail"];
export type PaymentPage = Schemas["PaymentPage"];
export type Dashboard = Schemas["Dashboard"];
export type DashboardRange = Dashboard["range"];
export type VolumePoint = Schemas["VolumePoint"];
export type Trace = Schemas["Trace"];
export type Hop = Schemas["Hop"];
export type Delivery = Trace["deliveries"][number];
export type LedgerEntry = Trace["entries"][number];
export type Problem = Schemas["Problem"];

/** What the live stream says of a payment that changed. */
export interface PaymentChange {
  readonly id: string;
  readonly client_id: string;
  readonly mode: Mode;
  readonly status: string;
  readonly amount_minor: number;
  readonly currency: string;
  readonly service: string;
  readonly version: number;
  readonly updated_at: string;
}
