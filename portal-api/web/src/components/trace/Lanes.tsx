/** The picture of a trace: one lane a service; hatched = queue wait, solid = handling, outlined = external call. */
import { SegmentedControl } from "@mantine/core";
import { useMemo, useState } from "react";
import type { Hop } from "../../api/model";
import { formatDuration } from "../time/time";
import classes from "./Lanes.module.css";
import { type Bar, layoutTrace, type ScaleKind } from "./layout";
import { outcomeOf } from "./outcomes";

const percent = (fraction: number) => `${(fraction * 100).toFixed(3)}%`;
const LINE_PX = 22;

interface BarProps {
  readonly bar: Bar;
  readonly chosen: boolean;
  readonly onChoose: (hopId: string) => void;
}

/** Drawn only: the list below the picture is its accessible source and holds the links. */
function HopBar({ bar, chosen, onChoose }: BarProps) {
  const { span } = bar;
  const waited = span.taken - span.start;
  const worked = span.end - span.taken;
  const words = [
    `${span.hop.name}: ${outcomeOf(span.hop.outcome).word}`,
    waited > 0 ? `waited ${formatDuration(waited)}` : "",
    worked > 0 ? `took ${formatDuration(worked)}` : "",
  ];
  return (
    <button
      type="button"
      tabIndex={-1}
      className={classes.bar}
      data-tone={outcomeOf(span.hop.outcome).tone}
      data-external={span.external}
      data-open={span.open}
      data-chosen={chosen}
      title={words.filter(Boolean).join(", ")}
      style={{
        insetInlineStart: percent(bar.from),
        inlineSize: percent(bar.to - bar.from),
        insetBlockStart: bar.line * LINE_PX,
      }}
      onClick={() => onChoose(span.hop.id)}
    >
      {waited > 0 && (
        <span
          className={classes.wait}
          style={{
            inlineSize: percent((bar.taken - bar.from) / Math.max(1e-9, bar.to - bar.from)),
          }}
        />
      )}
      <span className={classes.work} />
    </button>
  );
}

interface Props {
  readonly hops: readonly Hop[];
  readonly nowMs: number;
  /** Lanes in which something expected has not been seen. */
  readonly missing: ReadonlySet<string>;
  /** Lanes whose service gave no answer. */
  readonly unavailable: ReadonlySet<string>;
  readonly chosen: string | null;
  readonly onChoose: (hopId: string) => void;
}

function emptyWords(lane: string, missing: ReadonlySet<string>, unavailable: ReadonlySet<string>) {
  if (unavailable.has(lane)) return "could not be asked";
  return missing.has(lane) ? "expected, not seen yet" : "no steps";
}

export function Lanes(props: Props) {
  const { hops, nowMs, missing, unavailable, chosen, onChoose } = props;
  const [scale, setScale] = useState<ScaleKind>("even");
  const picture = useMemo(() => layoutTrace(hops, nowMs, scale), [hops, nowMs, scale]);
  return (
    <div className={classes.lanes}>
      <div className={classes.head}>
        <ul className={classes.legend} aria-hidden>
          <li>
            <i data-part="wait" /> waiting in a queue
          </li>
          <li>
            <i data-part="work" /> handling
          </li>
          <li>
            <i data-part="external" /> external call
          </li>
        </ul>
        <SegmentedControl
          size="xs"
          aria-label="Time scale"
          value={scale}
          onChange={(value) => setScale(value as ScaleKind)}
          data={[
            { value: "even", label: "Every step" },
            { value: "true", label: "True to time" },
          ]}
        />
      </div>
      <div className={classes.picture} aria-hidden>
        <div className={classes.grid}>
          {picture.ticks.map(({ at }) => (
            <span key={at} style={{ insetInlineStart: percent(at) }} />
          ))}
        </div>
        {picture.lanes.map(({ id, label, lines, bars }) => (
          <div key={id} className={classes.lane} data-empty={bars.length === 0}>
            <span className={classes.label}>{label}</span>
            <div className={classes.track} style={{ blockSize: lines * LINE_PX }}>
              {bars.map((bar) => (
                <HopBar
                  key={bar.span.hop.id}
                  bar={bar}
                  chosen={bar.span.hop.id === chosen}
                  onChoose={onChoose}
                />
              ))}
              {!bars.length && <em>{emptyWords(id, missing, unavailable)}</em>}
            </div>
          </div>
        ))}
        <div className={classes.axis}>
          {picture.ticks.map(({ at, label }) => (
            <span
              key={at}
              data-end={at > 0.94}
              data-late={at > 0.78 && at <= 0.94}
              data-first={at < 0.02}
              style={{ insetInlineStart: percent(at) }}
            >
              {label}
            </span>
          ))}
        </div>
      </div>
    </div>
  );
}
