/** Instants and durations as people read them. Input is ISO 8601 UTC text or milliseconds. */

/** `<1 ms`, `128 ms`, `2.4 s`, `32 s`, `4 m 12 s`, `2 h 5 m`, `3 d 4 h`. */
export function formatDuration(milliseconds: number): string {
  const ms = Math.max(0, milliseconds);
  if (ms < 1) return "<1 ms";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return seconds % 60 ? `${minutes} m ${seconds % 60} s` : `${minutes} m`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 ? `${hours} h ${minutes % 60} m` : `${hours} h`;
  const days = Math.floor(hours / 24);
  return hours % 24 ? `${days} d ${hours % 24} h` : `${days} d`;
}

/** A distance from the beginning of something: `+0 ms`, `+128 ms`. */
export const formatOffset = (milliseconds: number): string =>
  milliseconds < 1 ? "+0 ms" : `+${formatDuration(milliseconds)}`;

const DATE_TIME = new Intl.DateTimeFormat(undefined, {
  day: "numeric",
  month: "short",
  hour: "2-digit",
  minute: "2-digit",
});
const DATE_TIME_FULL = new Intl.DateTimeFormat(undefined, {
  day: "numeric",
  month: "short",
  year: "numeric",
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  timeZoneName: "short",
});
const CLOCK = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hourCycle: "h23",
});
const CLOCK_MILLIS = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  fractionalSecondDigits: 3,
  hourCycle: "h23",
});

/** `12 Nov, 14:05`: for rows. */
export const formatDateTime = (iso: string): string => DATE_TIME.format(new Date(iso));

/** `12 Nov 2026, 14:05:09 CAT`: for headers and tooltips. */
export const formatDateTimeFull = (iso: string): string => DATE_TIME_FULL.format(new Date(iso));

/** `14:05:09`. */
export const formatClock = (instant: string | number | Date): string =>
  CLOCK.format(new Date(instant));

/** `14:05:09.128`: where milliseconds are the point. */
export const formatClockMillis = (iso: string): string => CLOCK_MILLIS.format(new Date(iso));

/** The name of the time zone the pages show, such as `Africa/Kigali`. */
export const localTimeZone = (): string => Intl.DateTimeFormat().resolvedOptions().timeZone;
