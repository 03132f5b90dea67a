import { expect, test } from "vitest";
import type { PaymentChange, PaymentPage, PaymentRow } from "../../api/model";
import { bornAt } from "./ids";
import { mendRow } from "./useLiveRows";

const page = {
  items: [{ id: "pay_1", status: "processing", version: 2 } as PaymentRow],
  next_cursor: null,
} as PaymentPage;
const change = { id: "pay_1", status: "succeeded", version: 3, updated_at: "2026-11-12T10:00:00Z" };

test("a newer state replaces the row's in place", () => {
  const [row] = mendRow(page, change as PaymentChange).items;
  expect(row).toMatchObject({ status: "succeeded", version: 3 });
});

test("an older or repeated state changes nothing", () => {
  expect(mendRow(page, { ...change, version: 2 } as PaymentChange)).toBe(page);
  expect(mendRow(page, { ...change, version: 1 } as PaymentChange)).toBe(page);
});

test("a payment that is not on the page changes nothing", () => {
  expect(mendRow(page, { ...change, id: "pay_2" } as PaymentChange)).toBe(page);
});

test("an id tells when its payment was made", () => {
  expect(bornAt("pay_019a7b3c4d5e7000800000000000abcd")).toBe(0x019a7b3c4d5e);
  expect(bornAt("pay_legacy")).toBeNull();
});
