/** The hops in order, in words: the accessible source of the picture, one permalink each. */
import { ActionIcon, CopyButton, Tooltip } from "@mantine/core";
import {
  IconAlertTriangle,
  IconCheck,
  IconClock,
  IconLink,
  IconQuestionMark,
  IconRefresh,
  IconSkull,
  IconX,
} from "@tabler/icons-react";
import type { Hop } from "../../api/model";
import { formatClockMillis, formatDuration, formatOffset } from "../time/time";
import classes from "./HopList.module.css";
import { laneOf, spanOf } from "./layout";
import { attemptWords, kindWord, outcomeOf, serviceWord } from "./outcomes";

const ICONS: Record<string, typeof IconCheck> = {
  ok: IconCheck,
  pending: IconClock,
  retry: IconRefresh,
  dead: IconSkull,
  failed: IconX,
  unknown: IconQuestionMark,
};

/** The id a hop has on the page and in its permalink. */
export const anchorOf = (hopId: string): string => `hop-${hopId}`;

function Facts({ hop, nowMs }: { readonly hop: Hop; readonly nowMs: number }) {
  const span = spanOf(hop, nowMs);
  const waited = span ? span.taken - span.start : 0;
  const worked = span ? span.end - span.taken : 0;
  const facts = [
    kindWord(hop.kind),
    hop.queue ? `queue ${hop.queue}` : null,
    waited > 0 ? `waited ${formatDuration(waited)}` : null,
    worked > 0 || span?.open
      ? `${span?.open ? "running for" : "took"} ${formatDuration(worked)}`
      : null,
  ];
  return <p className={classes.facts}>{facts.filter(Boolean).join(" · ")}</p>;
}

interface ItemProps {
  readonly hop: Hop;
  readonly startMs: number;
  readonly nowMs: number;
  readonly chosen: boolean;
}

function Item({ hop, startMs, nowMs, chosen }: ItemProps) {
  const Icon = ICONS[hop.outcome] ?? IconQuestionMark;
  const { word, tone } = outcomeOf(hop.outcome);
  const at = hop.received_at ?? hop.published_at ?? hop.handled_at;
  const attempt = attemptWords(hop, nowMs);
  const link = `${location.origin}${location.pathname}${location.search}#${anchorOf(hop.id)}`;
  return (
    <li id={anchorOf(hop.id)} className={classes.item} data-chosen={chosen} tabIndex={-1}>
      <span className={classes.mark} data-tone={tone}>
        <Icon size={14} stroke={2.4} aria-hidden />
      </span>
      <div className={classes.body}>
        <p className={classes.name}>
          <strong>{serviceWord(laneOf(hop))}</strong> <span>{hop.name}</span>
          {hop.outcome !== "ok" && hop.name !== hop.outcome && (
            <span className={classes.outcome} data-tone={tone}>
              {word}
            </span>
          )}
          {hop.outcome === "ok" && <span className={classes.hidden}>{word}</span>}
        </p>
        <Facts hop={hop} nowMs={nowMs} />
        {attempt && (
          <p className={classes.attempt} data-tone={tone}>
            {attempt}
          </p>
        )}
        {hop.detail && <p className={classes.detail}>{hop.detail}</p>}
        {hop.data && (
          <details className={classes.data}>
            <summary>Data</summary>
            <pre tabIndex={0}>{JSON.stringify(hop.data, null, 2)}</pre>
          </details>
        )}
      </div>
      <div className={classes.when}>
        {at && (
          <time dateTime={at} title={at}>
            <b>{formatOffset(Date.parse(at) - startMs)}</b>
            {formatClockMillis(at)}
          </time>
        )}
        <CopyButton value={link}>
          {({ copied, copy }) => (
            <Tooltip label={copied ? "Copied" : "Copy the link to this step"}>
              <ActionIcon
                variant="subtle"
                color="gray"
                size={26}
                aria-label="Copy the link to this step"
                onClick={copy}
              >
                {copied ? <IconCheck size={15} /> : <IconLink size={15} stroke={1.8} />}
              </ActionIcon>
            </Tooltip>
          )}
        </CopyButton>
      </div>
    </li>
  );
}

interface Missing {
  readonly service: string;
  readonly what: string;
  readonly since_seconds: number;
}

interface Props {
  readonly hops: readonly Hop[];
  readonly missing: readonly Missing[];
  readonly startMs: number;
  readonly nowMs: number;
  /** When the server said how long something has been missing. */
  readonly asOfMs: number;
  readonly chosen: string | null;
}

export function HopList({ hops, missing, startMs, nowMs, asOfMs, chosen }: Props) {
  return (
    <ol className={classes.list} aria-label="Steps of this payment">
      {hops.map((hop) => (
        <Item key={hop.id} hop={hop} startMs={startMs} nowMs={nowMs} chosen={hop.id === chosen} />
      ))}
      {missing.map(({ service, what, since_seconds }) => (
        <li key={`${service}-${what}`} className={classes.item} data-missing>
          <span className={classes.mark} data-tone="pending">
            <IconAlertTriangle size={14} stroke={2.2} aria-hidden />
          </span>
          <div className={classes.body}>
            <p className={classes.name}>
              <strong>{serviceWord(service)}</strong> <span>{what}</span>
            </p>
            <p className={classes.attempt} data-tone="pending">
              expected, not seen for{" "}
              {formatDuration(since_seconds * 1000 + Math.max(0, nowMs - asOfMs))}
            </p>
          </div>
        </li>
      ))}
    </ol>
  );
}
