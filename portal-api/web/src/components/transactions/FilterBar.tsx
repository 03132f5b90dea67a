/** The bar above the list of payments: search, filters, columns; a bottom sheet on phones. */
import { Button, Checkbox, CloseButton, Drawer, Popover, TextInput } from "@mantine/core";
import { useDebouncedCallback, useDisclosure } from "@mantine/hooks";
import {
  IconAdjustmentsHorizontal,
  IconChevronDown,
  IconColumns3,
  IconSearch,
  IconX,
} from "@tabler/icons-react";
import { type ReactNode, useEffect, useState } from "react";
import { COLUMNS } from "../payment/columns";
import { AmountField, DateField, type Patch, ServiceField, StatusField } from "./FilterFields";
import { activeFilters, type FilterChip, splitList, type TransactionSearch } from "./filters";
import classes from "./Transactions.module.css";

const SEARCH_WAIT_MS = 300;

interface Props {
  readonly search: TransactionSearch;
  readonly currency: string | null;
  /** Names to offer; any other may be typed. */
  readonly services: readonly string[];
  readonly columns: readonly string[];
  readonly onPatch: (patch: Patch, replace?: boolean) => void;
  readonly onClear: () => void;
}

function SearchField({ search, onPatch }: Pick<Props, "search" | "onPatch">) {
  const [text, setText] = useState(search.q ?? "");
  useEffect(() => setText(search.q ?? ""), [search.q]);
  const apply = useDebouncedCallback(
    (value: string) => onPatch({ q: value.trim() || undefined }, true),
    SEARCH_WAIT_MS,
  );
  const change = (value: string) => {
    setText(value);
    apply(value);
  };
  return (
    <TextInput
      className={classes.searchField}
      aria-label="Search by id, reference or customer"
      placeholder="Search id, reference or customer"
      data-page-search
      leftSection={<IconSearch size={16} stroke={1.8} aria-hidden />}
      rightSection={
        text ? (
          <CloseButton size="sm" aria-label="Clear the search" onClick={() => change("")} />
        ) : undefined
      }
      value={text}
      onChange={(event) => change(event.currentTarget.value)}
    />
  );
}

interface FilterProps {
  readonly label: string;
  readonly count?: number;
  readonly icon?: ReactNode;
  readonly width?: number;
  readonly children: ReactNode;
}

function Filter({ label, count = 0, icon, width = 240, children }: FilterProps) {
  return (
    <Popover width={width} position="bottom-start" shadow="md" trapFocus>
      <Popover.Target>
        <Button
          variant="default"
          size="sm"
          className={classes.filterButton}
          data-active={count > 0}
          leftSection={icon}
          rightSection={<IconChevronDown size={15} stroke={1.8} aria-hidden />}
        >
          {label}
          {count > 0 && <span className={classes.count}>{count}</span>}
        </Button>
      </Popover.Target>
      <Popover.Dropdown>{children}</Popover.Dropdown>
    </Popover>
  );
}

function ColumnsField({ columns, onPatch }: Pick<Props, "columns" | "onPatch">) {
  return (
    <Checkbox.Group
      aria-label="Columns"
      value={[...columns]}
      onChange={(ids) =>
        onPatch({
          cols: COLUMNS.filter(({ id }) => ids.includes(id))
            .map(({ id }) => id)
            .join(","),
        })
      }
    >
      <div className={classes.checks}>
        {COLUMNS.map(({ id, label }) => (
          <Checkbox key={id} value={id} label={label} size="sm" disabled={id === "reference"} />
        ))}
      </div>
    </Checkbox.Group>
  );
}

function Chips({
  chips,
  onPatch,
  onClear,
}: Pick<Props, "onPatch" | "onClear"> & { readonly chips: FilterChip[] }) {
  if (!chips.length) return null;
  return (
    <div className={classes.chips}>
      {chips.map(({ id, label, clear }) => (
        <button key={id} type="button" className={classes.chip} onClick={() => onPatch(clear)}>
          {label}
          <IconX size={13} stroke={2} aria-hidden />
          <span className={classes.hidden}>: remove this filter</span>
        </button>
      ))}
      <Button variant="subtle" size="compact-sm" onClick={onClear}>
        Clear all
      </Button>
    </div>
  );
}

function Sheet(props: Props & { readonly active: number }) {
  const [opened, { open, close }] = useDisclosure(false);
  const { search, onPatch, currency, services, active, onClear } = props;
  return (
    <>
      <Button
        variant="default"
        className={classes.sheetButton}
        leftSection={<IconAdjustmentsHorizontal size={17} stroke={1.8} aria-hidden />}
        onClick={open}
      >
        Filters
        {active > 0 && <span className={classes.count}>{active}</span>}
      </Button>
      <Drawer
        opened={opened}
        onClose={close}
        position="bottom"
        size="85%"
        radius="14px 14px 0 0"
        title="Filters"
      >
        <div className={classes.sheet}>
          <h3>Status</h3>
          <StatusField search={search} onPatch={onPatch} />
          <h3>Date</h3>
          <DateField search={search} onPatch={onPatch} />
          <h3>Amount</h3>
          <AmountField search={search} onPatch={onPatch} currency={currency} />
          <ServiceField search={search} onPatch={onPatch} services={services} />
          <div className={classes.sheetEnd}>
            <Button variant="default" size="md" onClick={onClear}>
              Clear all
            </Button>
            <Button size="md" onClick={close}>
              Show payments
            </Button>
          </div>
        </div>
      </Drawer>
    </>
  );
}

export function FilterBar(props: Props) {
  const { search, onPatch, currency, services, columns, onClear } = props;
  const chips = activeFilters(search, currency);
  return (
    <div className={classes.bar}>
      <div className={classes.barRow}>
        <SearchField search={search} onPatch={onPatch} />
        <div className={classes.barFilters}>
          <Filter label="Status" count={splitList(search.status).length}>
            <StatusField search={search} onPatch={onPatch} />
          </Filter>
          <Filter label="Date" count={search.from || search.to ? 1 : 0} width={340}>
            <DateField search={search} onPatch={onPatch} />
          </Filter>
          <Filter label="Amount" count={search.min || search.max ? 1 : 0} width={320}>
            <AmountField search={search} onPatch={onPatch} currency={currency} />
          </Filter>
          <Filter label="Service" count={splitList(search.service).length} width={280}>
            <ServiceField search={search} onPatch={onPatch} services={services} />
          </Filter>
          <span className={classes.barEnd}>
            <Filter label="Columns" icon={<IconColumns3 size={16} stroke={1.7} aria-hidden />}>
              <ColumnsField columns={columns} onPatch={onPatch} />
            </Filter>
          </span>
        </div>
        <Sheet {...props} active={chips.filter(({ id }) => id !== "q").length} />
      </div>
      <Chips chips={chips} onPatch={onPatch} onClear={onClear} />
    </div>
  );
}
