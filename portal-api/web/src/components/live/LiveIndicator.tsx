/** Says whether the page keeps itself up to date: icon-like dot and word. */
import { Tooltip } from "@mantine/core";
import { formatClock } from "../time/time";
import classes from "./Live.module.css";
import { type LiveState, useLive } from "./LiveProvider";

const WORDS: Record<LiveState, { word: string; help: string }> = {
  live: { word: "Live", help: "Changes appear as they happen." },
  connecting: { word: "Connecting", help: "Opening the live stream." },
  stale: { word: "Not live", help: "The live stream is down; trying again." },
  resting: { word: "Resting", help: "Paused while this tab was hidden." },
};

export function LiveIndicator() {
  const { state } = useLive();
  const { word, help } = WORDS[state];
  return (
    <Tooltip label={help}>
      <span className={classes.indicator} data-state={state} role="status">
        <span className={classes.dot} aria-hidden />
        <span className={classes.word}>{word}</span>
      </span>
    </Tooltip>
  );
}

/** Shown across the page when the stream is down: the data stands, and says from when it is. */
export function StaleBanner() {
  const { state, freshAt } = useLive();
  if (state !== "stale") return null;
  return (
    <div className={classes.banner} role="status">
      Live updates paused, data from {formatClock(freshAt)}. Reconnecting…
    </div>
  );
}
