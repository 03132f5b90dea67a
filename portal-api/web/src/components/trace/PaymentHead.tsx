/** The head of a payment's page: state, amount, what happened in plain words, the facts. */
import { ActionIcon, CopyButton, Tooltip } from "@mantine/core";
import { IconArrowLeft, IconCheck, IconCopy } from "@tabler/icons-react";
import { Link, useCanGoBack, useRouter } from "@tanstack/react-router";
import type { ReactNode } from "react";
import type { PaymentRow, Trace } from "../../api/model";
import { Money } from "../money/Money";
import { StatusBadge } from "../payment/StatusBadge";
import { meaningOf } from "../payment/status";
import { TRANSACTIONS } from "../shell/navigation";
import { useTitle } from "../shell/PageHead";
import { usePortal } from "../shell/portal";
import { formatDateTimeFull, formatDuration } from "../time/time";
import { useNow } from "../time/useNow";
import classes from "./Trace.module.css";

/** Back to the list as it was left, filters and place; to the whole list where there is none. */
function BackLink() {
  const { audience } = usePortal();
  const router = useRouter();
  const canGoBack = useCanGoBack();
  return (
    <Link
      to={TRANSACTIONS[audience]}
      className={classes.back}
      onClick={(event) => {
        if (!canGoBack || event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        router.history.back();
      }}
    >
      <IconArrowLeft size={16} stroke={1.9} aria-hidden />
      Payments
    </Link>
  );
}

function Copied({ value, label }: { readonly value: string; readonly label: string }) {
  return (
    <span className={classes.copied}>
      <code>{value}</code>
      <CopyButton value={value}>
        {({ copied, copy }) => (
          <Tooltip label={copied ? "Copied" : `Copy ${label}`}>
            <ActionIcon
              variant="subtle"
              color="gray"
              size={24}
              aria-label={`Copy ${label}`}
              onClick={copy}
            >
              {copied ? <IconCheck size={14} /> : <IconCopy size={14} stroke={1.8} />}
            </ActionIcon>
          </Tooltip>
        )}
      </CopyButton>
    </span>
  );
}

function Elapsed({ payment }: { readonly payment: PaymentRow }) {
  const running = !meaningOf(payment.status).final;
  const now = useNow(1_000, running);
  const from = Date.parse(payment.accepted_at);
  const until = running ? now : Date.parse(payment.updated_at);
  return (
    <span className={classes.elapsed} role="timer" aria-live="off">
      {running ? "running for" : "ended after"} {formatDuration(until - from)}
    </span>
  );
}

function Fact({ label, children }: { readonly label: string; readonly children: ReactNode }) {
  return (
    <div>
      <dt>{label}</dt>
      <dd>{children}</dd>
    </div>
  );
}

export function PaymentHead({ trace }: { readonly trace: Trace }) {
  const { payment, explanation } = trace;
  const { tone } = meaningOf(payment.status);
  useTitle(`Payment ${payment.reference || payment.id}`);
  return (
    <header className={classes.head}>
      <BackLink />
      <div className={classes.headTop}>
        <div>
          <h1 className={classes.amount}>
            <span className={classes.hidden}>Payment {payment.reference}, </span>
            <Money minor={payment.amount_minor} currency={payment.currency} size="large" />
          </h1>
          <p className={classes.reference}>{payment.reference}</p>
        </div>
        <div className={classes.headState}>
          {payment.mode === "test" && <span className={classes.testMark}>Test</span>}
          <StatusBadge status={payment.status} late={payment.late} size="large" />
          <Elapsed payment={payment} />
        </div>
      </div>
      <section className={classes.explanation} data-tone={tone} aria-label="What happened">
        <strong>{explanation.headline}</strong>
        {explanation.cause && <p>{explanation.cause}</p>}
        {explanation.next_action && (
          <p>
            <b>Next:</b> {explanation.next_action}
          </p>
        )}
      </section>
      <dl className={classes.facts}>
        <Fact label="Payment id">
          <Copied value={payment.id} label="payment id" />
        </Fact>
        <Fact label="Accepted">
          <time dateTime={payment.accepted_at}>{formatDateTimeFull(payment.accepted_at)}</time>
        </Fact>
        <Fact label="Client">{payment.client_name}</Fact>
        <Fact label="Service">
          {payment.service} <span className={classes.muted}>{payment.route}</span>
        </Fact>
        {payment.fee_minor !== null && (
          <Fact label="Fee">
            <Money minor={payment.fee_minor} currency={payment.currency} />
          </Fact>
        )}
        {payment.net_minor !== null && (
          <Fact label="Net">
            <Money minor={payment.net_minor} currency={payment.currency} />
          </Fact>
        )}
        {payment.customer_id && <Fact label="Customer">{payment.customer_id}</Fact>}
        {payment.product_name && <Fact label="Product">{payment.product_name}</Fact>}
        {payment.provider_reference && (
          <Fact label="Provider reference">
            <Copied value={payment.provider_reference} label="provider reference" />
          </Fact>
        )}
        {(payment.reason_message || payment.reason_code) && (
          <Fact label="Reason">{payment.reason_message ?? payment.reason_code}</Fact>
        )}
      </dl>
    </header>
  );
}
