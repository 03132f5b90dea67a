import { expect, test } from "vitest";
import type { Hop } from "../../api/model";
import { accountWords, isRecordKeeping } from "./records";

const noted = { service: "reporter", kind: "message", name: "api.called.v1", outcome: "ok" } as Hop;

test("what reporter notes about other services is record-keeping", () => {
  expect(isRecordKeeping(noted)).toBe(true);
});

test("the payment's own events and whatever went wrong are not", () => {
  expect(isRecordKeeping({ ...noted, name: "payment.succeeded.v1" })).toBe(false);
  expect(isRecordKeeping({ ...noted, outcome: "dead" })).toBe(false);
  expect(isRecordKeeping({ ...noted, service: "ledger" })).toBe(false);
});

test("an account's code is said in words, an unknown one as it is", () => {
  expect(accountWords("client:cli_1:RWF:test:pending")).toBe("Client balance, pending");
  expect(accountWords("provider:simulator:RWF:test:clearing")).toBe("Provider simulator, clearing");
  expect(accountWords("operator:RWF:test:fees")).toBe("Operator, fees");
  expect(accountWords("suspense")).toBe("suspense");
});
