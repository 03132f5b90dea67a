/** A payment's trace in its three views, with the step that the address names. */
import { SegmentedControl } from "@mantine/core";
import { useLocation, useNavigate } from "@tanstack/react-router";
import { useEffect, useMemo } from "react";
import type { Trace } from "../../api/model";
import { Card } from "../states/Card";
import { useNow } from "../time/useNow";
import { anchorOf, HopList } from "./HopList";
import { HopTable } from "./HopTable";
import { Lanes } from "./Lanes";
import { spanOf } from "./layout";
import { isMoving } from "./moving";
import type { TraceView } from "./search";
import classes from "./Trace.module.css";

const serviceSet = (rows: readonly { readonly service: string }[]) =>
  new Set(rows.map(({ service }) => service));

interface TimelineProps {
  readonly trace: Trace;
  readonly nowMs: number;
}

function Timeline({ trace, nowMs }: TimelineProps) {
  const hash = useLocation({ select: (location) => location.hash });
  const navigate = useNavigate();
  const chosen = trace.hops.find((hop) => anchorOf(hop.id) === hash)?.id ?? null;
  const missing = useMemo(() => serviceSet(trace.missing), [trace.missing]);
  const unavailable = useMemo(() => serviceSet(trace.unavailable), [trace.unavailable]);
  const startMs = useMemo(
    () => Math.min(...trace.hops.map((hop) => spanOf(hop, 0)?.start ?? Number.POSITIVE_INFINITY)),
    [trace.hops],
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
          hops={trace.hops}
          nowMs={nowMs}
          missing={missing}
          unavailable={unavailable}
          chosen={chosen}
          onChoose={choose}
        />
      </div>
      <HopList
        hops={trace.hops}
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
  const steps = trace.hops.length;
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
      {view === "timeline" && <Timeline trace={trace} nowMs={nowMs} />}
      {view === "table" && <HopTable hops={trace.hops} nowMs={nowMs} />}
      {view === "json" && (
        <pre className={classes.json} tabIndex={0}>
          {JSON.stringify(trace, null, 2)}
        </pre>
      )}
    </Card>
  );
}
