/** The way to a first payment, shown in place of charts that would be empty. */
import { Button, Code, CopyButton } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { TRANSACTIONS } from "../shell/navigation";
import { usePortal } from "../shell/portal";
import { Card } from "../states/Card";
import classes from "./Dashboard.module.css";

const example = (currency: string) => `curl -X POST "$GATEWAY/v1/payments" \\
  -H "X-API-Key: $API_KEY" \\
  -H "Idempotency-Key: first-payment" \\
  -H "Content-Type: application/json" \\
  -d '{"service": "collection", "route": "payment",
       "amount_minor": 1000, "currency": "${currency}",
       "phone": "+250788000001", "reference": "first-payment"}'`;

export function Checklist() {
  const { audience, mode, clientId, apps, currency, setScope } = usePortal();
  const otherMode = mode === "live" ? "test" : "live";
  const code = example(currency ?? "RWF");
  return (
    <Card
      title="Your first payment"
      note={`Nothing has been paid in ${mode} mode yet. Four steps to see one payment travel all the way.`}
      actions={
        <Button variant="default" size="xs" onClick={() => setScope({ mode: otherMode, clientId })}>
          Look at {otherMode} mode
        </Button>
      }
    >
      <ol className={classes.checklist}>
        <li>
          <h3>Take your API key</h3>
          <p>
            Your operator creates it and hands it over once.
            {apps[0] && (
              <>
                {" "}
                Your App ID is <Code>{apps[0].app_id}</Code>.
              </>
            )}
          </p>
        </li>
        <li>
          <h3>Send a payment</h3>
          <pre className={classes.code} tabIndex={0}>
            {code}
          </pre>
          <CopyButton value={code}>
            {({ copied, copy }) => (
              <Button variant="default" size="xs" onClick={copy}>
                {copied ? "Copied" : "Copy"}
              </Button>
            )}
          </CopyButton>
        </li>
        <li>
          <h3>Follow its trace</h3>
          <p>
            It appears in the <Link to={TRANSACTIONS[audience]}>list of payments</Link> at once.
            Open it to see every hop.
          </p>
        </li>
        <li>
          <h3>Receive its webhook</h3>
          <p>
            Give your operator the address that should hear of results; the trace shows each
            delivery.
          </p>
        </li>
      </ol>
    </Card>
  );
}
