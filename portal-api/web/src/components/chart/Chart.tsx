/** The wrapper of every chart: a summary in words, the picture, and the same numbers as a table. */
import { Button } from "@mantine/core";
import { IconChartBar, IconTable } from "@tabler/icons-react";
import { type ReactNode, useState } from "react";
import { Card } from "../states/Card";
import classes from "./Chart.module.css";

export interface ChartColumn<T> {
  readonly label: string;
  readonly cell: (row: T) => ReactNode;
  readonly numeric?: boolean;
}

interface Props<T> {
  readonly title: string;
  /** What the picture says, in one or two sentences. */
  readonly summary: string;
  readonly actions?: ReactNode;
  readonly legend?: ReactNode;
  readonly rows: readonly T[];
  readonly rowKey: (row: T) => string;
  readonly columns: readonly ChartColumn<T>[];
  /** The picture; it is hidden from screen readers, which get the summary and the table. */
  readonly children: ReactNode;
}

export function Chart<T>(props: Props<T>) {
  const { title, summary, actions, legend, rows, rowKey, columns, children } = props;
  const [asTable, setAsTable] = useState(false);
  const Icon = asTable ? IconChartBar : IconTable;
  return (
    <Card
      title={title}
      note={summary}
      actions={
        <>
          {actions}
          <Button
            variant="default"
            size="xs"
            leftSection={<Icon size={15} stroke={1.7} aria-hidden />}
            onClick={() => setAsTable((before) => !before)}
          >
            {asTable ? "View as chart" : "View as table"}
          </Button>
        </>
      }
    >
      {asTable ? (
        <section className={classes.scroll} tabIndex={0} aria-label={`${title}, as a table`}>
          <table className={classes.table}>
            <thead>
              <tr>
                {columns.map(({ label, numeric }) => (
                  <th key={label} scope="col" data-numeric={numeric}>
                    {label}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {rows.map((row) => (
                <tr key={rowKey(row)}>
                  {columns.map(({ label, cell, numeric }) => (
                    <td key={label} data-numeric={numeric}>
                      {cell(row)}
                    </td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </section>
      ) : (
        <div aria-hidden>
          <div className={classes.plot}>{children}</div>
          {legend && <p className={classes.legend}>{legend}</p>}
        </div>
      )}
    </Card>
  );
}
