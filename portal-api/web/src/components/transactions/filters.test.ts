import { describe, expect, test } from "vitest";
import {
  activeFilters,
  nextSort,
  parseTransactionSearch,
  patchSearch,
  toPaymentsParams,
  withoutFilters,
} from "./filters";

const SCOPE = { mode: "live", currency: "RWF", limit: 50 } as const;

describe("filters in the URL", () => {
  test("a URL's valid filters are kept", () => {
    const search = {
      q: "INV-1",
      status: "failed,unknown",
      min: "100",
      sort: "-amount",
      from: "2026-11-01",
    };
    expect(parseTransactionSearch(search)).toEqual(search);
  });

  test("what is not valid is dropped, the rest stays", () => {
    expect(
      parseTransactionSearch({
        q: "  ",
        status: "failed,nonsense",
        from: "yesterday",
        min: "-4",
        max: "1e9",
        sort: "password",
        other: "x",
      }),
    ).toEqual({ status: "failed" });
  });

  test("the default sort is not written into the URL", () => {
    expect(parseTransactionSearch({ sort: "-accepted_at" })).toEqual({});
  });

  test("a list names each value once", () => {
    expect(parseTransactionSearch({ status: "failed,failed,unknown" }).status).toBe(
      "failed,unknown",
    );
  });
});

describe("what the API is asked", () => {
  test("an empty search asks for the newest payments of the scope", () => {
    expect(toPaymentsParams({}, { ...SCOPE, client_id: "cli_1" })).toEqual({
      mode: "live",
      client_id: "cli_1",
      sort: "-accepted_at",
      limit: 50,
    });
  });

  test("a last day is included whole", () => {
    const { from, to } = toPaymentsParams({ from: "2026-11-12", to: "2026-11-12" }, SCOPE);
    expect(from).toBe(new Date("2026-11-12T00:00").toISOString());
    expect(to).toBe(new Date("2026-11-13T00:00").toISOString());
  });

  test("an instant is sent as it is", () => {
    expect(toPaymentsParams({ to: "2026-11-12T10:00:00.000Z" }, SCOPE).to).toBe(
      "2026-11-12T10:00:00.000Z",
    );
  });

  test("amounts become minor units of the one currency", () => {
    expect(toPaymentsParams({ min: "10.5" }, { ...SCOPE, currency: "USD" }).min_minor).toBe(1050);
    expect(toPaymentsParams({ max: "1000" }, SCOPE).max_minor).toBe(1000);
  });

  test("amounts are not compared across currencies", () => {
    expect(toPaymentsParams({ min: "10" }, { ...SCOPE, currency: null }).min_minor).toBeUndefined();
  });
});

describe("chips and changes", () => {
  test("each filter has a chip that takes only itself away", () => {
    const search = parseTransactionSearch({ status: "failed,unknown", q: "abc", min: "100" });
    const chips = activeFilters(search, "RWF");
    expect(chips.map((chip) => chip.label)).toEqual([
      "“abc”",
      "Failed",
      "Unknown",
      "At least RWF\u00a0100",
    ]);
    expect(patchSearch(search, chips[1]?.clear ?? {})).toEqual({ ...search, status: "unknown" });
  });

  test("a change of filter starts over at the first page", () => {
    expect(patchSearch({ cursor: "abc", q: "x" }, { status: "failed" })).toEqual({
      q: "x",
      status: "failed",
    });
  });

  test("turning the page keeps the filters", () => {
    expect(patchSearch({ q: "x" }, { cursor: "abc" })).toEqual({ q: "x", cursor: "abc" });
  });

  test("clearing leaves sort and columns", () => {
    expect(withoutFilters({ q: "x", sort: "amount", cols: "id", cursor: "c" })).toEqual({
      sort: "amount",
      cols: "id",
    });
  });

  test("a header's click changes the order, then its direction", () => {
    expect(nextSort("-accepted_at", "amount")).toBe("-amount");
    expect(nextSort("-amount", "amount")).toBe("amount");
    expect(nextSort("-accepted_at", "status")).toBe("status");
    expect(nextSort("status", "status")).toBe("-accepted_at");
  });
});
