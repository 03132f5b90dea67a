import { describe, expect, test } from "vitest";
import { compactMoney, currencyExponent, formatMoney, parseDecimal, toDecimal } from "./money";

describe("money", () => {
  test("each currency has its own number of decimals", () => {
    expect(["RWF", "UGX", "XOF", "USD", "IQD", "KWD"].map(currencyExponent)).toEqual([
      0, 0, 0, 2, 3, 3,
    ]);
  });

  test("an amount is shown with exactly the decimals of its currency", () => {
    expect(formatMoney(12500, "RWF", "en")).toBe("RWF\u00a012,500");
    expect(formatMoney(1050, "USD", "en")).toBe("USD\u00a010.50");
    expect(formatMoney(1250, "KWD", "en")).toBe("KWD\u00a01.250");
    expect(formatMoney(5, "KWD", "en")).toBe("KWD\u00a00.005");
    expect(formatMoney(0, "USD", "en")).toBe("USD\u00a00.00");
  });

  test("a negative amount carries one minus sign in front", () => {
    expect(formatMoney(-1050, "USD", "en")).toBe("\u2212USD\u00a010.50");
    expect(toDecimal(-5, "USD")).toBe("-0.05");
  });

  test("the largest exact integer keeps every digit", () => {
    expect(toDecimal(Number.MAX_SAFE_INTEGER, "USD")).toBe("90071992547409.91");
    expect(formatMoney(Number.MAX_SAFE_INTEGER, "USD", "en")).toBe(
      "USD\u00a090,071,992,547,409.91",
    );
  });

  test("a typed amount becomes minor units", () => {
    expect(parseDecimal("1,000.50", "USD")).toBe(100050);
    expect(parseDecimal("1 000", "RWF")).toBe(1000);
    expect(parseDecimal("1.5", "KWD")).toBe(1500);
    expect(parseDecimal("1000.00", "RWF")).toBe(1000);
  });

  test("what is no amount of the currency is refused", () => {
    expect(parseDecimal("10.5", "RWF")).toBeNull();
    expect(parseDecimal("10.505", "USD")).toBeNull();
    for (const text of ["", "-5", "1e3", "abc", "1.2.3"])
      expect(parseDecimal(text, "USD")).toBeNull();
  });

  test("axes get a short form", () => {
    expect(compactMoney(1_250_000, "RWF", "en")).toBe("1.3M");
    expect(compactMoney(125_000, "USD", "en")).toBe("1.3K");
  });
});
