/** The filter fields of the list of payments, for the bar's popovers and for the phone's sheet. */
import { Button, Checkbox, Group, TagsInput, TextInput } from "@mantine/core";
import { useState } from "react";
import { meaningOf, STATUSES } from "../payment/status";
import { joinList, splitList, type TransactionSearch } from "./filters";
import classes from "./Transactions.module.css";

export type Patch = Partial<Record<keyof TransactionSearch, string | undefined>>;

export interface FieldProps {
  readonly search: TransactionSearch;
  readonly onPatch: (patch: Patch) => void;
}

export function StatusField({ search, onPatch }: FieldProps) {
  return (
    <Checkbox.Group
      aria-label="Status"
      value={splitList(search.status)}
      onChange={(values) => onPatch({ status: joinList(values) })}
    >
      <div className={classes.checks}>
        {Object.keys(STATUSES).map((status) => (
          <Checkbox key={status} value={status} label={meaningOf(status).word} size="sm" />
        ))}
      </div>
    </Checkbox.Group>
  );
}

export function ServiceField({
  search,
  onPatch,
  services,
}: FieldProps & { readonly services: readonly string[] }) {
  return (
    <TagsInput
      label="Service"
      placeholder={search.service ? undefined : "Any service"}
      data={[...services]}
      value={splitList(search.service)}
      onChange={(values) => onPatch({ service: joinList(values) })}
      comboboxProps={{ withinPortal: false }}
      clearable
    />
  );
}

const dayText = (date: Date) =>
  `${date.getFullYear()}-${String(date.getMonth() + 1).padStart(2, "0")}-${String(date.getDate()).padStart(2, "0")}`;

function daysAgo(days: number): string {
  const date = new Date();
  date.setDate(date.getDate() - days);
  return dayText(date);
}

const PRESETS = [
  { label: "Today", from: 0, to: 0 },
  { label: "Yesterday", from: 1, to: 1 },
  { label: "Last 7 days", from: 6, to: 0 },
  { label: "Last 30 days", from: 29, to: 0 },
];

/** A day for the input, whatever the URL holds: a day or an instant. */
const asDay = (value: string | undefined) =>
  value ? (/^\d{4}-\d{2}-\d{2}$/.test(value) ? value : dayText(new Date(value))) : "";

export function DateField({ search, onPatch }: FieldProps) {
  return (
    <div className={classes.stack}>
      <Group gap={6}>
        {PRESETS.map(({ label, from, to }) => (
          <Button
            key={label}
            size="compact-sm"
            variant="default"
            onClick={() => onPatch({ from: daysAgo(from), to: daysAgo(to) })}
          >
            {label}
          </Button>
        ))}
      </Group>
      <Group gap={10} grow>
        <TextInput
          type="date"
          label="From"
          value={asDay(search.from)}
          onChange={(event) => onPatch({ from: event.currentTarget.value || undefined })}
        />
        <TextInput
          type="date"
          label="Until"
          value={asDay(search.to)}
          onChange={(event) => onPatch({ to: event.currentTarget.value || undefined })}
        />
      </Group>
    </div>
  );
}

interface AmountProps extends FieldProps {
  readonly currency: string | null;
}

export function AmountField({ search, onPatch, currency }: AmountProps) {
  const [min, setMin] = useState(search.min ?? "");
  const [max, setMax] = useState(search.max ?? "");
  if (!currency) {
    return (
      <p className={classes.fieldNote}>
        Choose one client first: amounts of different currencies can't be compared.
      </p>
    );
  }
  const apply = () => onPatch({ min: min.trim() || undefined, max: max.trim() || undefined });
  return (
    <form
      className={classes.stack}
      onSubmit={(event) => {
        event.preventDefault();
        apply();
      }}
    >
      <Group gap={10} grow>
        <TextInput
          label={`At least, ${currency}`}
          inputMode="decimal"
          value={min}
          onChange={(event) => setMin(event.currentTarget.value)}
          onBlur={apply}
        />
        <TextInput
          label={`At most, ${currency}`}
          inputMode="decimal"
          value={max}
          onChange={(event) => setMax(event.currentTarget.value)}
          onBlur={apply}
        />
      </Group>
      <button type="submit" hidden />
    </form>
  );
}
