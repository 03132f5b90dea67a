import { describe, expect, test } from "vitest";
import type { Hop } from "../../api/model";
import { LANES, laneOf, layoutTrace, spanOf, timeScale } from "./layout";
import { attemptWords } from "./outcomes";

const T0 = Date.parse("2026-11-12T10:00:00.000Z");
const at = (ms: number) => new Date(T0 + ms).toISOString();

function hop(part: Partial<Hop>): Hop {
  return {
    id: "hop",
    service: "gateway",
    kind: "message",
    name: "payment.succeeded.v1",
    event_id: null,
    causation_id: null,
    queue: null,
    attempt: 1,
    max_attempts: null,
    next_at: null,
    published_at: null,
    received_at: null,
    handled_at: null,
    outcome: "ok",
    detail: null,
    data: null,
    ...part,
  };
}

const requireSpan = (part: Partial<Hop>, nowMs = T0) => {
  const span = spanOf(hop(part), nowMs);
  if (!span) throw new Error("no span");
  return span;
};

describe("a hop as an interval", () => {
  test("the time in the queue is apart from the handling", () => {
    const span = requireSpan({ published_at: at(0), received_at: at(30), handled_at: at(50) });
    expect([span.start - T0, span.taken - T0, span.end - T0]).toEqual([0, 30, 50]);
  });

  test("a call that did not wait has no queue time", () => {
    const span = requireSpan({ received_at: at(10), handled_at: at(20) });
    expect(span.start).toBe(span.taken);
  });

  test("a hop that runs ends now", () => {
    const span = requireSpan({ received_at: at(10), outcome: "pending" }, T0 + 500);
    expect([span.end - T0, span.open]).toEqual([500, true]);
  });

  test("a message nobody took is all waiting", () => {
    const span = requireSpan({ published_at: at(0), outcome: "pending" }, T0 + 500);
    expect([span.taken - T0, span.end - T0]).toEqual([500, 500]);
  });

  test("clocks that disagree never give a negative length", () => {
    const span = requireSpan({ published_at: at(40), received_at: at(30), handled_at: at(20) });
    expect([span.start - T0, span.taken - T0, span.end - T0]).toEqual([40, 40, 40]);
  });

  test("a hop without any time has no place in the picture", () => {
    expect(spanOf(hop({}), T0)).toBeNull();
  });

  test("the caller's request and the provider have lanes of their own", () => {
    expect(laneOf(hop({ kind: "http" }))).toBe("api");
    expect(laneOf(hop({ kind: "provider_call", service: "payment-router" }))).toBe("provider");
    expect(laneOf(hop({ kind: "delivery", service: "notifier" }))).toBe("notifier");
  });
});

describe("the time scale", () => {
  const spans = [
    requireSpan({ received_at: at(0), handled_at: at(5) }),
    requireSpan({ received_at: at(5), handled_at: at(600_000) }),
  ];

  test("true to time: half of the time is half of the width", () => {
    expect(timeScale(spans, "true")(T0 + 300_000)).toBeCloseTo(0.5);
  });

  test("every step: five milliseconds stay visible beside ten minutes", () => {
    expect(timeScale(spans, "even")(T0 + 5)).toBeGreaterThan(0.1);
  });

  test("both rise from 0 to 1 and never turn back", () => {
    for (const kind of ["true", "even"] as const) {
      const scale = timeScale(spans, kind);
      const marks = [-5, 0, 1, 5, 6, 1_000, 599_999, 600_000, 700_000].map((ms) => scale(T0 + ms));
      expect(marks).toEqual(marks.toSorted((a, b) => a - b));
      expect([marks[0], marks.at(-1)]).toEqual([0, 1]);
    }
  });

  test("a single instant does not divide by zero", () => {
    const instant = [requireSpan({ received_at: at(0), handled_at: at(0) })];
    expect(timeScale(instant, "even")(T0)).toBe(0);
  });
});

describe("the picture", () => {
  test("lanes stand in the order of a payment's way, used or not", () => {
    expect(layoutTrace([], T0, "even").lanes.map(({ id }) => id)).toEqual(
      LANES.map(({ id }) => id),
    );
  });

  test("hops at the same time lie on different lines of their lane", () => {
    const hops = [
      hop({ id: "a", service: "notifier", received_at: at(0), handled_at: at(100) }),
      hop({ id: "b", service: "notifier", received_at: at(50), handled_at: at(150) }),
      hop({ id: "c", service: "notifier", received_at: at(160), handled_at: at(200) }),
    ];
    const lane = layoutTrace(hops, T0, "true").lanes.find(({ id }) => id === "notifier");
    expect(lane?.lines).toBe(2);
    expect(lane?.bars.map((bar) => [bar.span.hop.id, bar.line])).toEqual([
      ["a", 0],
      ["b", 1],
      ["c", 0],
    ]);
  });

  test("a service nobody planned for gets a lane at the end", () => {
    const hops = [hop({ service: "auditor", received_at: at(0), handled_at: at(1) })];
    expect(layoutTrace(hops, T0, "even").lanes.at(-1)?.id).toBe("auditor");
  });

  test("the axis begins at 0 and names the end", () => {
    const hops = [hop({ received_at: at(0), handled_at: at(2_400) })];
    const { ticks, totalMs } = layoutTrace(hops, T0, "even");
    expect([ticks[0]?.label, ticks.at(-1)?.label, totalMs]).toEqual(["0", "+2.4 s", 2_400]);
  });
});

describe("attempts in words", () => {
  test("a retry says which, of how many, and when the next is", () => {
    const retry = { attempt: 2, max_attempts: 10, next_at: at(32_000) };
    expect(attemptWords(retry, T0)).toBe("attempt 2 of 10, next in 32 s");
    expect(attemptWords(retry, T0 + 40_000)).toBe("attempt 2 of 10, next is due now");
  });

  test("a first attempt that went well needs no words", () => {
    expect(attemptWords({ attempt: 1, max_attempts: 10, next_at: null }, T0)).toBeNull();
  });
});
