/** Money as people read it, from integer minor units and an ISO 4217 code; no floats on the way. */

// ISO 4217 (list one): the same exponents as the services use. Intl follows CLDR instead, which
// shows IQD without decimals: an amount wrong by a factor of a thousand.
const ZERO_DECIMALS = new Set(
  "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(" "),
);
const THREE_DECIMALS = new Set("BHD IQD JOD KWD LYD OMR TND".split(" "));

/** Number of decimals of a currency: RWF 0, USD 2, KWD 3. */
export function currencyExponent(currency: string): 0 | 2 | 3 {
  if (ZERO_DECIMALS.has(currency)) return 0;
  return THREE_DECIMALS.has(currency) ? 3 : 2;
}

/** The exact decimal string of an amount: 100050 USD is `1000.50`, 1000 RWF is `1000`. */
export function toDecimal(amountMinor: number, currency: string): string {
  const places = currencyExponent(currency);
  const sign = amountMinor < 0 ? "-" : "";
  const digits = BigInt(Math.abs(Math.trunc(amountMinor)))
    .toString()
    .padStart(places + 1, "0");
  return places ? `${sign}${digits.slice(0, -places)}.${digits.slice(-places)}` : sign + digits;
}

/** Minor units of what a person typed (`1,000.50`), or null when it is not an amount. */
export function parseDecimal(text: string, currency: string): number | null {
  const places = currencyExponent(currency);
  const match = /^(\d{1,13})(?:\.(\d{1,3}))?$/.exec(text.replaceAll(/[\s,_]/g, ""));
  if (!match) return null;
  const fraction = (match[2] ?? "").padEnd(3, "0");
  if (/[1-9]/.test(fraction.slice(places))) return null;
  const minor = Number(`${match[1]}${fraction.slice(0, places)}`);
  return Number.isSafeInteger(minor) ? minor : null;
}

export interface MoneyText {
  readonly sign: string;
  readonly currency: string;
  readonly number: string;
}

/** An amount in parts (`RWF`, `12,500`), so that a page can set the code apart from the digits. */
export function moneyParts(amountMinor: number, currency: string, locale?: string): MoneyText {
  const places = currencyExponent(currency);
  const decimal = toDecimal(Math.abs(amountMinor), currency) as `${number}`;
  const number = new Intl.NumberFormat(locale, {
    minimumFractionDigits: places,
    maximumFractionDigits: places,
  }).format(decimal);
  return { sign: amountMinor < 0 ? "\u2212" : "", currency, number };
}

/** `RWF 12,500`, `USD 10.50`, `−KWD 1.250`. */
export function formatMoney(amountMinor: number, currency: string, locale?: string): string {
  const { sign, number } = moneyParts(amountMinor, currency, locale);
  return `${sign}${currency}\u00a0${number}`;
}

/** A short form for chart axes and tight cards: `1.2M`, `350K`; never for a single payment. */
export function compactMoney(amountMinor: number, currency: string, locale?: string): string {
  return new Intl.NumberFormat(locale, {
    notation: "compact",
    maximumFractionDigits: 1,
  }).format(toDecimal(amountMinor, currency) as `${number}`);
}
