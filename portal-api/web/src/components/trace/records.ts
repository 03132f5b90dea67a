/** What of a trace is record-keeping about the payment and not its way. Pure. */
import type { Hop } from "../../api/model";

/**
 * True for a step in which reporter only notes what another service did (a call of the API, a
 * webhook, an entry). There are many where a client polls; one that went wrong is never hidden.
 */
export function isRecordKeeping(hop: Hop): boolean {
  return (
    hop.service === "reporter" &&
    hop.kind === "message" &&
    hop.outcome === "ok" &&
    !/^(payment|refund)\./.test(hop.name)
  );
}

/** An account's code in words: `client:cli_1:RWF:test:pending` is “Client balance, pending”. */
export function accountWords(code: string): string {
  const parts = code.split(":");
  const [owner, name] = parts;
  const purse = parts.at(-1) ?? "";
  if (owner === "client" && parts.length === 5) return `Client balance, ${purse}`;
  if (owner === "provider" && parts.length === 5) return `Provider ${name}, ${purse}`;
  if (owner === "operator" && parts.length === 4) return `Operator, ${purse}`;
  return code;
}
