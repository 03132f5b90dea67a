/** The columns a list of payments can show. */
import { columnVisibilityFeature, createColumnHelper, tableFeatures } from "@tanstack/react-table";
import type { PaymentRow } from "../../api/model";
import { Money } from "../money/Money";
import { formatDateTime, formatDateTimeFull } from "../time/time";
import classes from "./PaymentTable.module.css";
import { StatusBadge } from "./StatusBadge";

export const features = tableFeatures({ columnVisibilityFeature });
const helper = createColumnHelper<typeof features, PaymentRow>();

export interface ColumnMeaning {
  readonly id: string;
  readonly label: string;
  readonly numeric?: boolean;
  readonly sort?: "accepted_at" | "amount" | "status" | "service";
}

/** In the order of the table; `reference` is the row's link and can't be hidden. */
export const COLUMNS: readonly ColumnMeaning[] = [
  { id: "accepted_at", label: "Date", sort: "accepted_at" },
  { id: "reference", label: "Reference" },
  { id: "client_name", label: "Client" },
  { id: "customer_id", label: "Customer" },
  { id: "product_name", label: "Product" },
  { id: "service", label: "Service", sort: "service" },
  { id: "status", label: "Status", sort: "status" },
  { id: "reason_message", label: "Reason" },
  { id: "provider_reference", label: "Provider reference" },
  { id: "id", label: "Payment id" },
  { id: "amount", label: "Amount", numeric: true, sort: "amount" },
  { id: "fee", label: "Fee", numeric: true },
  { id: "net", label: "Net", numeric: true },
];

export const meaningOfColumn = (id: string): ColumnMeaning =>
  COLUMNS.find((column) => column.id === id) ?? { id, label: id };

const text = (value: string | null) =>
  value ? <span className={classes.text}>{value}</span> : <span className={classes.none}>–</span>;

const code = (value: string | null) =>
  value ? <code className={classes.code}>{value}</code> : <span className={classes.none}>–</span>;

export const tableColumns = helper.columns([
  helper.accessor("accepted_at", {
    id: "accepted_at",
    cell: ({ row }) => (
      <time
        dateTime={row.original.accepted_at}
        title={formatDateTimeFull(row.original.accepted_at)}
      >
        {formatDateTime(row.original.accepted_at)}
      </time>
    ),
  }),
  helper.accessor("reference", { id: "reference" }),
  helper.accessor("client_name", {
    id: "client_name",
    cell: ({ row }) => text(row.original.client_name),
  }),
  helper.accessor("customer_id", {
    id: "customer_id",
    cell: ({ row }) => text(row.original.customer_id),
  }),
  helper.accessor("product_name", {
    id: "product_name",
    cell: ({ row }) => text(row.original.product_name),
  }),
  helper.accessor("service", { id: "service", cell: ({ row }) => text(row.original.service) }),
  helper.accessor("status", {
    id: "status",
    cell: ({ row }) => <StatusBadge status={row.original.status} late={row.original.late} />,
  }),
  helper.accessor("reason_message", {
    id: "reason_message",
    cell: ({ row }) => text(row.original.reason_message ?? row.original.reason_code),
  }),
  helper.accessor("provider_reference", {
    id: "provider_reference",
    cell: ({ row }) => code(row.original.provider_reference),
  }),
  helper.accessor("id", { id: "id", cell: ({ row }) => code(row.original.id) }),
  helper.accessor("amount_minor", {
    id: "amount",
    cell: ({ row }) => (
      <b className={classes.amount}>
        <Money minor={row.original.amount_minor} currency={row.original.currency} />
      </b>
    ),
  }),
  helper.accessor("fee_minor", {
    id: "fee",
    cell: ({ row }) => <Money minor={row.original.fee_minor} currency={row.original.currency} />,
  }),
  helper.accessor("net_minor", {
    id: "net",
    cell: ({ row }) => <Money minor={row.original.net_minor} currency={row.original.currency} />,
  }),
]);
