import { expect, test } from "vitest";
import { formatDuration, formatOffset } from "./time";

test("a duration has the two units that matter", () => {
  const cases: [number, string][] = [
    [0, "<1 ms"],
    [128.4, "128 ms"],
    [2_400, "2.4 s"],
    [32_000, "32 s"],
    [60_000, "1 m"],
    [252_000, "4 m 12 s"],
    [7_500_000, "2 h 5 m"],
    [86_400_000, "1 d"],
    [273_600_000, "3 d 4 h"],
  ];
  for (const [ms, words] of cases) expect(formatDuration(ms)).toBe(words);
});

test("the clock never runs backwards", () => {
  expect(formatDuration(-5)).toBe("<1 ms");
  expect(formatOffset(0)).toBe("+0 ms");
});
