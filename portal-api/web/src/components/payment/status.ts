/** The states of a payment in words: what each is called, its tone, and whether it is the end. */

export type Tone = "success" | "pending" | "failed" | "refunded" | "neutral";

export interface StatusMeaning {
  readonly word: string;
  readonly tone: Tone;
  /** True where nothing more is expected to happen by itself. */
  readonly final: boolean;
}

/** In the order filters list them. */
export const STATUSES: Readonly<Record<string, StatusMeaning>> = {
  succeeded: { word: "Succeeded", tone: "success", final: true },
  processing: { word: "Processing", tone: "pending", final: false },
  requires_customer_action: { word: "Waiting for payer", tone: "pending", final: false },
  held: { word: "Held for review", tone: "pending", final: false },
  unknown: { word: "Unknown", tone: "pending", final: false },
  failed: { word: "Failed", tone: "failed", final: true },
  conflicted: { word: "Conflict", tone: "failed", final: false },
  cancelled: { word: "Cancelled", tone: "neutral", final: true },
  expired: { word: "Expired", tone: "neutral", final: true },
};

/** A state this page has not heard of is shown by its own name, as still open. */
export function meaningOf(status: string): StatusMeaning {
  return STATUSES[status] ?? { word: status.replaceAll("_", " "), tone: "neutral", final: false };
}
