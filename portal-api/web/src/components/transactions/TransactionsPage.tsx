/** The list of payments of both portals: filters in the URL, keyset pages, live. */
import { Button, Select, Skeleton } from "@mantine/core";
import { useLocalStorage } from "@mantine/hooks";
import {
  IconArrowUp,
  IconChevronLeft,
  IconChevronRight,
  IconFilterOff,
  IconPlayerPause,
  IconPlayerPlay,
  IconReceipt,
} from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useRouter } from "@tanstack/react-router";
import { useEffect, useMemo, useState } from "react";
import type { PaymentPage } from "../../api/model";
import { paymentsQuery } from "../../api/queries";
import { Money } from "../money/Money";
import { COLUMNS } from "../payment/columns";
import { focusRow, PaymentTable } from "../payment/PaymentTable";
import { PageHead } from "../shell/PageHead";
import { type Portal, usePortal } from "../shell/portal";
import { useShortcuts } from "../shell/useShortcuts";
import { Card } from "../states/Card";
import { EmptyState, QueryState } from "../states/states";
import { localTimeZone } from "../time/time";
import { FilterBar } from "./FilterBar";
import type { Patch } from "./FilterFields";
import {
  activeFilters,
  DEFAULT_SORT,
  nextSort,
  patchSearch,
  splitList,
  type TransactionSearch,
  toPaymentsParams,
  withoutFilters,
} from "./filters";
import classes from "./Transactions.module.css";
import { useLiveRows } from "./useLiveRows";

const PAGE_SIZES = ["25", "50", "100", "200"];

interface Props {
  readonly search: TransactionSearch;
  readonly onSearch: (search: TransactionSearch, replace?: boolean) => void;
}

function useColumns(search: TransactionSearch, portal: Portal): readonly string[] {
  const manyClients =
    !portal.clientId && new Set(portal.session.apps.map((app) => app.client_id)).size > 1;
  return useMemo(() => {
    const known = splitList(search.cols).filter((id) => COLUMNS.some((column) => column.id === id));
    if (known.length) return [...new Set([...known, "reference"])];
    return [
      "accepted_at",
      "reference",
      ...(manyClients ? ["client_name"] : []),
      "service",
      "status",
      "amount",
    ];
  }, [search.cols, manyClients]);
}

function Summary({ page }: { readonly page: PaymentPage }) {
  const { count, count_is_exact, succeeded, volume_minor, currency } = page.summary;
  const rate = count && count_is_exact ? `${((succeeded / count) * 100).toFixed(1)} %` : "–";
  return (
    <dl className={classes.summary}>
      <div>
        <dt>Payments</dt>
        <dd>
          {count.toLocaleString()}
          {!count_is_exact && "+"}
        </dd>
      </div>
      <div>
        <dt>Succeeded</dt>
        <dd>
          {succeeded.toLocaleString()} <span>{rate}</span>
        </dd>
      </div>
      <div>
        <dt>Volume</dt>
        <dd>
          {currency ? (
            <Money minor={volume_minor} currency={currency} />
          ) : (
            <span>several currencies</span>
          )}
        </dd>
      </div>
    </dl>
  );
}

function TableSkeleton() {
  return (
    <div className={classes.skeleton}>
      {["a", "b", "c", "d", "e", "f", "g", "h"].map((key) => (
        <Skeleton key={key} height={20} />
      ))}
    </div>
  );
}

interface PagerProps {
  readonly search: TransactionSearch;
  readonly page: PaymentPage;
  readonly size: string;
  readonly onSize: (size: string) => void;
  readonly onSearch: Props["onSearch"];
}

function Pager({ search, page, size, onSize, onSearch }: PagerProps) {
  const router = useRouter();
  const first = !search.cursor;
  return (
    <nav className={classes.pager} aria-label="Pages">
      <Select
        aria-label="Payments a page"
        size="xs"
        w={112}
        allowDeselect={false}
        data={PAGE_SIZES.map((value) => ({ value, label: `${value} a page` }))}
        value={size}
        onChange={(value) => value && onSize(value)}
      />
      <span className={classes.pagerButtons}>
        {!first && (
          <Button variant="subtle" size="xs" onClick={() => onSearch(patchSearch(search, {}))}>
            First page
          </Button>
        )}
        <Button
          variant="default"
          size="xs"
          disabled={first}
          leftSection={<IconChevronLeft size={15} aria-hidden />}
          onClick={() => router.history.back()}
        >
          Previous
        </Button>
        <Button
          variant="default"
          size="xs"
          disabled={!page.next_cursor}
          rightSection={<IconChevronRight size={15} aria-hidden />}
          onClick={() => onSearch(patchSearch(search, { cursor: page.next_cursor ?? undefined }))}
        >
          Next
        </Button>
      </span>
    </nav>
  );
}

function NoPayments({
  filtered,
  onClear,
}: {
  readonly filtered: boolean;
  readonly onClear: () => void;
}) {
  const { mode, clientId, setScope } = usePortal();
  if (filtered) {
    return (
      <EmptyState
        title="No payment matches these filters"
        icon={IconFilterOff}
        action={
          <Button variant="default" onClick={onClear}>
            Clear all filters
          </Button>
        }
      >
        Take one away, or widen the dates.
      </EmptyState>
    );
  }
  const other = mode === "live" ? "test" : "live";
  return (
    <EmptyState
      title={`No payments in ${mode} mode yet`}
      icon={IconReceipt}
      action={
        <Button variant="default" onClick={() => setScope({ mode: other, clientId })}>
          Look at {other} mode
        </Button>
      }
    >
      Every payment is listed here from the moment it is accepted.
    </EmptyState>
  );
}

interface PauseProps {
  readonly paused: boolean;
  readonly onToggle: () => void;
}

function PauseButton({ paused, onToggle }: PauseProps) {
  const Icon = paused ? IconPlayerPlay : IconPlayerPause;
  return (
    <Button
      variant="default"
      size="xs"
      aria-pressed={paused}
      leftSection={<Icon size={15} aria-hidden />}
      onClick={onToggle}
    >
      {paused ? "Resume updates" : "Pause updates"}
    </Button>
  );
}

interface NewPillProps {
  readonly waiting: number;
  readonly onShow: () => void;
}

function NewPill({ waiting, onShow }: NewPillProps) {
  return (
    <div aria-live="polite" className={classes.pillPlace}>
      {waiting > 0 && (
        <button type="button" className={classes.pill} onClick={onShow}>
          <IconArrowUp size={14} stroke={2.2} aria-hidden />
          {waiting} new {waiting === 1 ? "payment" : "payments"}
        </button>
      )}
    </div>
  );
}

function usePayments(search: TransactionSearch, size: string) {
  const { mode, clientId, currency } = usePortal();
  const scope = { mode, currency, limit: Number(size) };
  return useQuery(
    paymentsQuery(toPaymentsParams(search, clientId ? { ...scope, client_id: clientId } : scope)),
  );
}

/** `/` on another page leads here with `#search`: the field gets the focus. */
function useSearchFocus() {
  useEffect(() => {
    if (location.hash !== "#search") return;
    document.querySelector<HTMLElement>("[data-page-search]")?.focus();
  }, []);
}

export function TransactionsPage({ search, onSearch }: Props) {
  const portal = usePortal();
  const { mode, clientId, currency } = portal;
  const [size, setSize] = useLocalStorage({ key: "mospay.page-size", defaultValue: "50" });
  const [paused, setPaused] = useState(false);
  const columns = useColumns(search, portal);
  const query = usePayments(search, size);
  const scope = { mode, clientId };
  const { waiting, show } = useLiveRows({ page: query.data, search, scope, paused });
  const services = useMemo(
    () => [...new Set(query.data?.items.map((row) => row.service))].sort(),
    [query.data],
  );
  useSearchFocus();
  useShortcuts({ j: () => focusRow(1), k: () => focusRow(-1) });

  const patch = (change: Patch, replace?: boolean) =>
    onSearch(patchSearch(search, change), replace);
  const clear = () => onSearch(withoutFilters(search));
  const current = search.sort ?? DEFAULT_SORT;
  const sort = {
    current,
    onSort: (column: Parameters<typeof nextSort>[1]) => patch({ sort: nextSort(current, column) }),
  };
  const showNew = () => {
    if (search.cursor) onSearch(patchSearch(search, {}));
    show();
  };
  return (
    <>
      <PageHead title="Payments" note={`Times in ${localTimeZone()}`}>
        <PauseButton paused={paused} onToggle={() => setPaused((before) => !before)} />
      </PageHead>
      <Card flush className={classes.list}>
        <FilterBar {...{ search, currency, services, columns }} onPatch={patch} onClear={clear} />
        <QueryState query={query} skeleton={<TableSkeleton />}>
          {(page) => (
            <div
              data-fetching={query.isPlaceholderData}
              aria-busy={query.isPlaceholderData}
              className={classes.content}
            >
              <Summary page={page} />
              <NewPill waiting={waiting} onShow={showNew} />
              {page.items.length ? (
                <PaymentTable label="Payments" rows={page.items} columns={columns} sort={sort} />
              ) : (
                <NoPayments filtered={activeFilters(search, currency).length > 0} onClear={clear} />
              )}
              <Pager search={search} page={page} size={size} onSize={setSize} onSearch={onSearch} />
            </div>
          )}
        </QueryState>
      </Card>
    </>
  );
}
