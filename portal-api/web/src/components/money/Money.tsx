/** One amount on a page: the code muted, the digits tabular, never broken over two lines. */

import classes from "./Money.module.css";
import { moneyParts } from "./money";

interface Props {
  readonly minor: number | null;
  readonly currency: string;
  /** `large` for headers and key figures. */
  readonly size?: "normal" | "large";
}

export function Money({ minor, currency, size = "normal" }: Props) {
  if (minor === null) return <span className={classes.none}>–</span>;
  const { sign, number } = moneyParts(minor, currency);
  return (
    <span className={classes.money} data-size={size}>
      {sign}
      <span className={classes.code}>{currency}</span>&nbsp;{number}
    </span>
  );
}
