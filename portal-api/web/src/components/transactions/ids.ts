/** What a payment's id says by itself. */

/** When it was made, in epoch milliseconds: the first 48 bits of a uuid7; null for other ids. */
export function bornAt(id: string): number | null {
  const match = /^pay_([0-9a-f]{12})7[0-9a-f]{19}$/.exec(id.replaceAll("-", ""));
  return match?.[1] ? Number.parseInt(match[1], 16) : null;
}
