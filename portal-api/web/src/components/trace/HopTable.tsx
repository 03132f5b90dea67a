/** The hops as a table: every time and id, for comparing. */
import type { Hop } from "../../api/model";
import { formatClockMillis, formatDuration } from "../time/time";
import { laneOf, spanOf } from "./layout";
import { attemptWords, outcomeOf, serviceWord } from "./outcomes";
import classes from "./Trace.module.css";

interface Props {
  readonly hops: readonly Hop[];
  readonly nowMs: number;
}

const took = (ms: number) => (ms > 0 ? formatDuration(ms) : "–");
const clock = (iso: string | null) => (iso ? formatClockMillis(iso) : "–");

export function HopTable({ hops, nowMs }: Props) {
  return (
    <section
      className={classes.tableScroll}
      aria-label="Steps of this payment, as a table"
      tabIndex={0}
    >
      <table className={classes.table}>
        <thead>
          <tr>
            {["Service", "Step", "Outcome", "Attempt", "Published", "Received", "Handled"].map(
              (label) => (
                <th key={label} scope="col">
                  {label}
                </th>
              ),
            )}
            <th scope="col" data-numeric>
              Waited
            </th>
            <th scope="col" data-numeric>
              Took
            </th>
            <th scope="col">Event id</th>
          </tr>
        </thead>
        <tbody>
          {hops.map((hop) => {
            const span = spanOf(hop, nowMs);
            return (
              <tr key={hop.id}>
                <td>{serviceWord(laneOf(hop))}</td>
                <td>{hop.name}</td>
                <td>{outcomeOf(hop.outcome).word}</td>
                <td>{attemptWords(hop, nowMs) ?? hop.attempt}</td>
                <td>{clock(hop.published_at)}</td>
                <td>{clock(hop.received_at)}</td>
                <td>{clock(hop.handled_at)}</td>
                <td data-numeric>{span ? took(span.taken - span.start) : "–"}</td>
                <td data-numeric>{span ? took(span.end - span.taken) : "–"}</td>
                <td>
                  <code>{hop.event_id ?? "–"}</code>
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </section>
  );
}
