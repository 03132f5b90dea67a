/** A payment's trace in its three views, with the step that the address names. */
import { SegmentedControl, Switch } from "@mantine/core";
import { useLocation, useNavigate } from "@tanstack/react-router";
import { useEffect, useMemo, useState } from "react";
import type { Hop, Trace } from "../../api/model";
import { Card } from "../states/Card";
import { useNow } from "../time/useNow";
import { anchorOf, HopList } from "./HopList";
import { HopTable } from "./HopTable";
import { Lanes } from "./Lanes";
import { spanOf } from "./layout";
import { isMoving } from "./moving";
import { isRecordKeeping } from "./records";
import type { TraceView } from "./search";
import classes from "./Trace.module.css";

const serviceSet = (rows: readonly { readonly service: string }[]) =>
  new Set(rows.map(({ service }) => service));

interface TimelineProps {
  readonly trace: Trace;
  readonly hops: readonly Hop[];
  readonly nowMs: number;
}

function Timeline({ trace, hops, nowMs }: TimelineProps) {
  const hash = useLocation({ select: (location) => location.hash });
  const navigate = useNavigate();
  const chosen = hops.find((hop) => anchorOf(hop.id) === hash)?.id ?? null;
  const missing = useMemo(() => serviceSet(trace.missing), [trace.missing]);
  const unavailable = useMemo(() => serviceSet(trace.unavailable), [trace.unavailable]);
  const startMs = useMemo(
    () => Math.min(...hops.map((hop) => spanOf(hop, 0)?.start ?? Number.POSITIVE_INFINITY)),
    [hops],
  );
  useEffect(() => {
    if (chosen) document.getElementById(anchorOf(chosen))?.scrollIntoView({ block: "center" });
  }, [chosen]);
  const choose = (hopId: string) =>
    void navigate({
      to: ".",
      search: true,
      hash: anchorOf(hopId),
      replace: true,
      resetScroll: false,
      hashScrollIntoView: false,
    });
  return (
    <>
      <div className={classes.lanesPlace}>
        <Lanes
          hops={hops}
          nowMs={nowMs}
          missing={missing}
          unavailable={unavailable}
          chosen={chosen}
          onChoose={choose}
        />
      </div>
      <HopList
        hops={hops}
        missing={trace.missing}
        startMs={startMs}
        nowMs={nowMs}
        asOfMs={Date.parse(trace.as_of)}
        chosen={chosen}
      />
    </>
  );
}

interface Props {
  readonly trace: Trace;
  readonly view: TraceView;
  readonly onView: (view: TraceView) => void;
}

export function TraceCard({ trace, view, onView }: Props) {
  const nowMs = useNow(1_000, isMoving(trace));
  const hash = useLocation({ select: (location) => location.hash });
  const [asked, setAsked] = useState(false);
  const records = useMemo(() => trace.hops.filter(isRecordKeeping), [trace.hops]);
  const withRecords = asked || records.some((hop) => anchorOf(hop.id) === hash);
  const hops = useMemo(
    () => (withRecords ? trace.hops : trace.hops.filter((hop) => !isRecordKeeping(hop))),
    [trace.hops, withRecords],
  );
  const steps = hops.length;
  return (
    <Card
      flush
      title="Trace"
      note={`${steps} ${steps === 1 ? "step" : "steps"} across the services`}
      actions={
        <SegmentedControl
          size="xs"
          aria-label="View of the trace"
          value={view}
          onChange={(value) => onView(value as TraceView)}
          data={[
            { value: "timeline", label: "Timeline" },
            { value: "table", label: "Table" },
            { value: "json", label: "JSON" },
          ]}
        />
      }
    >
      {view !== "json" && records.length > 0 && (
        <Switch
          className={classes.records}
          size="xs"
          checked={withRecords}
          onChange={(event) => setAsked(event.currentTarget.checked)}
          label={`Show ${records.length} more in which Reporter only keeps records`}
        />
      )}
      {view === "timeline" && <Timeline trace={trace} hops={hops} nowMs={nowMs} />}
      {view === "table" && <HopTable hops={hops} nowMs={nowMs} />}
      {view === "json" && (
        <pre className={classes.json} tabIndex={0}>
          {JSON.stringify(trace, null, 2)}
        </pre>
      )}
    </Card>
  );
}
