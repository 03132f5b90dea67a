/** What a hop is and how it went, in words. Pure. */
import type { Tone } from "../payment/status";
import { formatDuration } from "../time/time";

const OUTCOMES: Readonly<Record<string, { word: string; tone: Tone }>> = {
  ok: { word: "Done", tone: "success" },
  pending: { word: "In progress", tone: "pending" },
  retry: { word: "Will retry", tone: "pending" },
  dead: { word: "Dead-lettered", tone: "failed" },
  failed: { word: "Failed", tone: "failed" },
  unknown: { word: "Outcome unknown", tone: "pending" },
};

/** An outcome this page has not heard of is shown by its own name. */
export const outcomeOf = (outcome: string): { word: string; tone: Tone } =>
  OUTCOMES[outcome] ?? { word: outcome, tone: "neutral" };

const KIND: Readonly<Record<string, string>> = {
  http: "API request",
  message: "Message",
  provider_call: "Provider call",
  state: "State",
  posting: "Ledger posting",
  delivery: "Webhook delivery",
};

export const kindWord = (kind: string): string => KIND[kind] ?? kind;

const SERVICE: Readonly<Record<string, string>> = {
  api: "API",
  gateway: "Gateway",
  "payment-router": "Payment router",
  provider: "Provider",
  ledger: "Ledger",
  notifier: "Notifier",
  reporter: "Reporter",
  "portal-api": "Portal",
};

export const serviceWord = (service: string): string => SERVICE[service] ?? service;

/** `attempt 2 of 10, next in 32 s`; null for a first attempt that needs no other. */
export function attemptWords(
  hop: { attempt: number; max_attempts: number | null; next_at: string | null },
  nowMs: number,
): string | null {
  const next = hop.next_at === null ? null : Date.parse(hop.next_at) - nowMs;
  if (hop.attempt <= 1 && next === null) return null;
  const of = hop.max_attempts ? ` of ${hop.max_attempts}` : "";
  if (next === null) return `attempt ${hop.attempt}${of}`;
  return `attempt ${hop.attempt}${of}, ${next > 0 ? `next in ${formatDuration(next)}` : "next is due now"}`;
}
