/** How the period's payments ended, and what of their volume stays after fees. */
import { Link } from "@tanstack/react-router";
import { Money } from "../money/Money";
import { meaningOf } from "../payment/status";
import { TRANSACTIONS } from "../shell/navigation";
import { usePortal } from "../shell/portal";
import { Card } from "../states/Card";
import classes from "./Dashboard.module.css";
import type { Figured } from "./search";

const OUTCOMES = ["succeeded", "failed", "processing", "unknown"] as const;

export function Outcomes({ data }: { readonly data: Figured }) {
  const { audience } = usePortal();
  const { kpis, currency } = data;
  const total = Math.max(1, kpis.payments);
  return (
    <Card title="Outcomes" note="Choose one to list its payments.">
      <ul className={classes.outcomes}>
        {OUTCOMES.map((status) => {
          const { word, tone } = meaningOf(status);
          const share = kpis[status] / total;
          return (
            <li key={status}>
              <Link to={TRANSACTIONS[audience]} search={{ status }}>
                <span>{word}</span>
                <span className={classes.outcomeCount}>
                  {kpis[status].toLocaleString()}
                  <small>{Math.round(share * 100)} %</small>
                </span>
                <span className={classes.meter} data-tone={tone} aria-hidden>
                  <span style={{ inlineSize: `${Math.min(100, share * 100)}%` }} />
                </span>
              </Link>
            </li>
          );
        })}
      </ul>
      <dl className={classes.sums}>
        <div>
          <dt>Volume</dt>
          <dd>
            <Money minor={kpis.volume_minor} currency={currency} />
          </dd>
        </div>
        <div>
          <dt>Fees</dt>
          <dd>
            <Money minor={-kpis.fees_minor} currency={currency} />
          </dd>
        </div>
        <div>
          <dt>Net</dt>
          <dd>
            <Money minor={kpis.net_minor} currency={currency} />
          </dd>
        </div>
      </dl>
    </Card>
  );
}
