/** The panels under a trace: ledger entries, webhook deliveries, the payment's own facts. */
import { Skeleton } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import type { Delivery, LedgerEntry, PaymentRow } from "../../api/model";
import { paymentQuery } from "../../api/queries";
import { Money } from "../money/Money";
import { Card } from "../states/Card";
import { EmptyState, QueryState } from "../states/states";
import { formatClock, formatDateTime, formatDuration } from "../time/time";
import { attemptWords } from "./outcomes";
import { accountWords } from "./records";
import classes from "./Trace.module.css";

function Postings({ entry }: { readonly entry: LedgerEntry }) {
  return (
    <table className={classes.postings}>
      <thead>
        <tr>
          <th scope="col">Account</th>
          <th scope="col">Debit</th>
          <th scope="col">Credit</th>
        </tr>
      </thead>
      <tbody>
        {entry.postings.map(({ account, amount_minor: minor }) => (
          <tr key={`${account} ${minor}`}>
            <td title={account}>{accountWords(account)}</td>
            <td>{minor > 0 && <Money minor={minor} currency={entry.currency} />}</td>
            <td>{minor < 0 && <Money minor={-minor} currency={entry.currency} />}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

export function LedgerPanel({ entries }: { readonly entries: readonly LedgerEntry[] }) {
  return (
    <Card title="Ledger" note="What this payment did to the books.">
      {!entries.length && (
        <p className={classes.nothing}>
          No entry. Money is only posted once a payment has succeeded.
        </p>
      )}
      {entries.map((entry) => (
        <div key={entry.entry_id} className={classes.entry}>
          <p className={classes.entryHead}>
            <strong className={classes.kind}>{entry.kind.replaceAll("_", " ")}</strong>
            <time dateTime={entry.posted_at}>{formatDateTime(entry.posted_at)}</time>
          </p>
          <Postings entry={entry} />
        </div>
      ))}
    </Card>
  );
}

function DeliveryItem({
  delivery,
  nowMs,
}: {
  readonly delivery: Delivery;
  readonly nowMs: number;
}) {
  const done = ["delivered", "succeeded", "ok"].includes(delivery.state);
  const last = delivery.attempts.at(-1);
  const waiting = attemptWords(
    { attempt: last?.number ?? 1, max_attempts: null, next_at: delivery.next_at },
    nowMs,
  );
  return (
    <div className={classes.entry}>
      <p className={classes.entryHead}>
        <strong>{delivery.event_type}</strong>
        <span className={classes.deliveryState} data-done={done}>
          {delivery.state.replaceAll("_", " ")}
        </span>
      </p>
      <p className={classes.url}>{delivery.url}</p>
      <ol className={classes.attempts}>
        {delivery.attempts.map((attempt) => (
          <li key={attempt.number}>
            <span>
              {attempt.number}.{" "}
              {attempt.status_code
                ? `answered ${attempt.status_code}`
                : (attempt.error ?? "no answer")}
            </span>
            <span>
              {attempt.duration_ms !== null && `${formatDuration(attempt.duration_ms)} · `}
              <time dateTime={attempt.at}>{formatClock(attempt.at)}</time>
            </span>
          </li>
        ))}
      </ol>
      {!done && waiting && <p className={classes.waiting}>{waiting}</p>}
    </div>
  );
}

interface DeliveriesProps {
  readonly deliveries: readonly Delivery[];
  readonly nowMs: number;
}

export function DeliveriesPanel({ deliveries, nowMs }: DeliveriesProps) {
  return (
    <Card title="Webhooks" note="What the merchant's own systems were told.">
      {!deliveries.length && (
        <p className={classes.nothing}>
          Nothing sent. No endpoint listens to this payment's events.
        </p>
      )}
      {deliveries.map((delivery) => (
        <DeliveryItem key={delivery.delivery_id} delivery={delivery} nowMs={nowMs} />
      ))}
    </Card>
  );
}

export function AttemptsPanel({ payment }: { readonly payment: PaymentRow }) {
  const query = useQuery(paymentQuery(payment.id));
  return (
    <Card title="Attempts" note="Each call to the provider that this payment made.">
      <QueryState query={query} skeleton={<Skeleton height={80} />}>
        {({ attempts, metadata }) => (
          <>
            {!attempts.length && <EmptyState title="No attempt yet" />}
            {attempts.map((attempt) => (
              <div key={attempt.id} className={classes.entry}>
                <p className={classes.entryHead}>
                  <strong>
                    {attempt.number}. {attempt.state.replaceAll("_", " ")}
                  </strong>
                  {attempt.started_at && (
                    <time dateTime={attempt.started_at}>{formatClock(attempt.started_at)}</time>
                  )}
                </p>
                <p className={classes.url}>
                  {[
                    attempt.route,
                    attempt.http_status && `HTTP ${attempt.http_status}`,
                    attempt.result,
                    attempt.started_at &&
                      attempt.ended_at &&
                      formatDuration(Date.parse(attempt.ended_at) - Date.parse(attempt.started_at)),
                  ]
                    .filter(Boolean)
                    .join(" · ")}
                </p>
                {attempt.reason && <p className={classes.url}>{attempt.reason}</p>}
              </div>
            ))}
            {metadata && Object.keys(metadata).length > 0 && (
              <details className={classes.metadata}>
                <summary>Metadata</summary>
                <pre className={classes.json} tabIndex={0}>
                  {JSON.stringify(metadata, null, 2)}
                </pre>
              </details>
            )}
          </>
        )}
      </QueryState>
    </Card>
  );
}
