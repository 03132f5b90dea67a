/** A list of payments: a table, or labelled cards on a phone; each row leads to its trace. */
import { useMediaQuery } from "@mantine/hooks";
import { IconArrowDown, IconArrowsSort, IconArrowUp, IconChevronRight } from "@tabler/icons-react";
import { Link } from "@tanstack/react-router";
import { useTable } from "@tanstack/react-table";
import { useMemo } from "react";
import type { PaymentRow } from "../../api/model";
import { Money } from "../money/Money";
import { PAYMENT } from "../shell/navigation";
import { usePortal } from "../shell/portal";
import { formatDateTime } from "../time/time";
import { COLUMNS, type ColumnMeaning, features, meaningOfColumn, tableColumns } from "./columns";
import classes from "./PaymentTable.module.css";
import { StatusBadge } from "./StatusBadge";

const PHONE = "(max-width: 767px)";

export interface SortControl {
  /** Such as `-accepted_at`: descending by date. */
  readonly current: string;
  readonly onSort: (column: NonNullable<ColumnMeaning["sort"]>) => void;
}

interface Props {
  readonly label: string;
  readonly rows: readonly PaymentRow[];
  /** Ids of the columns to show; the order is the table's. */
  readonly columns: readonly string[];
  readonly sort?: SortControl;
}

function RowLink({ row }: { readonly row: PaymentRow }) {
  const { audience } = usePortal();
  return (
    <Link
      to={PAYMENT[audience]}
      params={{ id: row.id }}
      className={classes.rowLink}
      data-row-link
      preload={false}
    >
      {row.reference || row.id}
    </Link>
  );
}

function HeaderCell({
  column,
  sort,
}: {
  readonly column: ColumnMeaning;
  readonly sort?: SortControl;
}) {
  const { sort: key, label, numeric } = column;
  if (!key || !sort) {
    return (
      <th scope="col" data-numeric={numeric}>
        {label}
      </th>
    );
  }
  const direction =
    sort.current === key ? "ascending" : sort.current === `-${key}` ? "descending" : "none";
  const Icon = { ascending: IconArrowUp, descending: IconArrowDown, none: IconArrowsSort }[
    direction
  ];
  return (
    <th scope="col" data-numeric={numeric} aria-sort={direction}>
      <button
        type="button"
        className={classes.sort}
        data-active={direction !== "none"}
        onClick={() => sort.onSort(key)}
      >
        {label}
        <Icon size={13} stroke={2} aria-hidden />
      </button>
    </th>
  );
}

function Rows({ rows, columns, label, sort }: Props) {
  const columnVisibility = useMemo(
    () => Object.fromEntries(COLUMNS.map(({ id }) => [id, columns.includes(id)])),
    [columns],
  );
  const table = useTable({
    features,
    columns: tableColumns,
    data: rows as PaymentRow[],
    state: { columnVisibility },
    getRowId: (row: PaymentRow) => row.id,
  });
  return (
    <section className={classes.scroll} aria-label={`${label}, table`} tabIndex={0}>
      <table className={classes.table}>
        <thead>
          <tr>
            {table.getVisibleLeafColumns().map(({ id }) => (
              <HeaderCell key={id} column={meaningOfColumn(id)} sort={sort} />
            ))}
          </tr>
        </thead>
        <tbody>
          {table.getRowModel().rows.map((row) => (
            <tr key={row.id}>
              {row.getVisibleCells().map((cell) => (
                <td key={cell.id} data-numeric={meaningOfColumn(cell.column.id).numeric}>
                  {cell.column.id === "reference" ? (
                    <RowLink row={row.original} />
                  ) : (
                    <table.FlexRender cell={cell} />
                  )}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

function Cards({ rows, label, columns }: Props) {
  return (
    <ul className={classes.cards} aria-label={label}>
      {rows.map((row) => (
        <li key={row.id} className={classes.card}>
          <div className={classes.cardTop}>
            <RowLink row={row} />
            <b>
              <Money minor={row.amount_minor} currency={row.currency} />
            </b>
          </div>
          <dl className={classes.cardFacts}>
            <div>
              <dt>Date</dt>
              <dd>{formatDateTime(row.accepted_at)}</dd>
            </div>
            <div>
              <dt>Service</dt>
              <dd>{row.service}</dd>
            </div>
            {columns.includes("client_name") && (
              <div>
                <dt>Client</dt>
                <dd>{row.client_name}</dd>
              </div>
            )}
          </dl>
          <div className={classes.cardEnd}>
            <StatusBadge status={row.status} late={row.late} />
            <IconChevronRight size={17} stroke={1.8} aria-hidden />
          </div>
        </li>
      ))}
    </ul>
  );
}

export function PaymentTable(props: Props) {
  const phone = useMediaQuery(PHONE, false, { getInitialValueInEffect: false });
  return phone ? <Cards {...props} /> : <Rows {...props} />;
}

/** Move the focus to the next or previous row of the page's list. */
export function focusRow(step: 1 | -1): void {
  const links = [...document.querySelectorAll<HTMLElement>("[data-row-link]")];
  const current = links.indexOf(document.activeElement as HTMLElement);
  const next = current === -1 ? (step === 1 ? 0 : links.length - 1) : current + step;
  links[Math.min(links.length - 1, Math.max(0, next))]?.focus();
}
