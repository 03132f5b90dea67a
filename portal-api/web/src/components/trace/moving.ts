/** Whether a trace is still being written. Pure. */
import type { Trace } from "../../api/model";
import { meaningOf } from "../payment/status";

/** True while something of the trace is still to come. */
export function isMoving(trace: Trace): boolean {
  return (
    !meaningOf(trace.payment.status).final ||
    trace.missing.length > 0 ||
    trace.hops.some((hop) => hop.outcome === "pending" || hop.outcome === "retry") ||
    trace.deliveries.some((delivery) => delivery.next_at !== null)
  );
}
