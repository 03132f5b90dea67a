"""Money as integer minor units plus an ISO 4217 code; never a float, never a mixed sum."""

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

# ISO 4217 (list one, 2024): exponents that are not 2, for the currencies payments here can carry.
_ZERO_DECIMALS = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split()
_THREE_DECIMALS = "BHD IQD JOD KWD LYD OMR TND".split()
_EXPONENTS = {**dict.fromkeys(_ZERO_DECIMALS, 0), **dict.fromkeys(_THREE_DECIMALS, 3)}
_TWO_DECIMALS = frozenset(
    (
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD "
        "CAD CDF CHF CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP "
        "GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD "
        "LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB "
        "PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC "
        "SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VES WST XCD YER ZAR ZMW ZWG"
    ).split()
)
MAX_MINOR = 2**63 - 1  # a signed bigint: what every amount column holds


class MoneyError(ValueError):
    """An amount or a currency that can't be taken as it stands; `code` names why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def exponent(currency: str) -> int:
    """Return the number of decimals of an ISO 4217 currency (RWF 0, USD 2, KWD 3)."""
    if currency in _EXPONENTS:
        return _EXPONENTS[currency]
    if currency in _TWO_DECIMALS:
        return 2
    raise MoneyError("unknown_currency", f"{currency!r} is not an ISO 4217 code this system knows")


def parse_minor(text: str, currency: str) -> int:
    """Turn a decimal string such as `1000.50` into minor units of `currency`, exactly.

    Raises MoneyError: `invalid_amount` (not a plain decimal), `too_precise` (more decimals than
    the currency has, unless they are zeros), `amount_out_of_range`.
    """
    places = exponent(currency)
    plain = text.isascii() and 0 < len(text) <= 40 and text.replace(".", "", 1).isdigit()
    try:
        value = Decimal(text) if plain else None
    except InvalidOperation:  # pragma: no cover - `plain` already excludes it
        value = None
    if value is None:
        raise MoneyError("invalid_amount", "must be a plain decimal such as 1000 or 10.50")
    scaled = value.scaleb(places)
    if scaled != scaled.to_integral_value():
        raise MoneyError("too_precise", f"{currency} has {places} decimals; send at most that many")
    if scaled > MAX_MINOR:
        raise MoneyError("amount_out_of_range", "is larger than this system can hold")
    return int(scaled)


def format_minor(amount_minor: int, currency: str) -> str:
    """Return the exact decimal string of an amount: 100050 USD is `1000.50`, 1000 RWF is `1000`."""
    places = exponent(currency)
    sign, digits = ("-" if amount_minor < 0 else ""), str(abs(amount_minor)).rjust(places + 1, "0")
    return sign + (f"{digits[:-places]}.{digits[-places:]}" if places else digits)


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in minor units of one currency."""

    amount_minor: int
    currency: str

    def __post_init__(self) -> None:
        exponent(self.currency)
        if not -MAX_MINOR <= self.amount_minor <= MAX_MINOR:
            raise MoneyError("amount_out_of_range", "does not fit a 64-bit integer")

    def __add__(self, other: "Money") -> "Money":
        if other.currency != self.currency:
            raise MoneyError("currency_mismatch", f"{self.currency} and {other.currency} differ")
        return Money(self.amount_minor + other.amount_minor, self.currency)

    def __neg__(self) -> "Money":
        return Money(-self.amount_minor, self.currency)

    def __sub__(self, other: "Money") -> "Money":
        return self + -other

    def __str__(self) -> str:
        return f"{format_minor(self.amount_minor, self.currency)} {self.currency}"
