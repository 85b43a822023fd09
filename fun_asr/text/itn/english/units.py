"""Currencies and units of measure: which symbol each takes, and which force digits."""

from __future__ import annotations

from fun_asr.text.itn.english.lexicon import word_set

__all__ = ["CENTS", "CURRENCIES", "DIGIT_UNITS", "SYMBOLS", "TIME_UNITS"]

CURRENCIES = {
    "dollar": "$",
    "dollars": "$",
    "euro": "€",
    "euros": "€",
    "pound": "£",
    "pounds": "£",
    "yen": "¥",
    "rupee": "₹",
    "rupees": "₹",
}

CENTS = frozenset(("cent", "cents", "pence"))

TIME_UNITS = word_set(
    "second seconds minute minutes hour hours day days night nights week weeks month months year years"
)

_METRIC = {
    "kilometer": "km",
    "kilometre": "km",
    "meter": "m",
    "metre": "m",
    "centimeter": "cm",
    "centimetre": "cm",
    "millimeter": "mm",
    "millimetre": "mm",
    "kilogram": "kg",
    "gram": "g",
    "milligram": "mg",
    "microgram": "µg",
    "liter": "L",
    "litre": "L",
    "milliliter": "mL",
    "millilitre": "mL",
    "kilobyte": "KB",
    "megabyte": "MB",
    "gigabyte": "GB",
    "terabyte": "TB",
    "kilohertz": "kHz",
    "megahertz": "MHz",
    "gigahertz": "GHz",
    "hertz": "Hz",
    "watt": "W",
    "kilowatt": "kW",
    "megawatt": "MW",
    "gigawatt": "GW",
    "volt": "V",
    "kilovolt": "kV",
    "milliamp": "mA",
    "milliwatt": "mW",
    "millisecond": "ms",
    "decibel": "dB",
    "hectare": "ha",
}

_PLURAL_TOO = {name + plural: symbol for name, symbol in _METRIC.items() for plural in ("", "s")}

SYMBOLS = {
    **_PLURAL_TOO,
    **{f"square {name}": f"{symbol}²" for name, symbol in _PLURAL_TOO.items() if symbol in ("km", "m", "cm", "mm")},
    **{f"cubic {name}": f"{symbol}³" for name, symbol in _PLURAL_TOO.items() if symbol in ("m", "cm")},
    "kilos": "kg",
    "kilowatt hour": "kWh",
    "kilowatt hours": "kWh",
    "milliamp hours": "mAh",
    **{f"{mile} {per} hour": "mph" for mile in ("mile", "miles") for per in ("per", "an")},
    **{f"{name} {per} hour": "km/h" for name, symbol in _PLURAL_TOO.items() if symbol == "km" for per in ("per", "an")},
    **{f"{name} per second": "m/s" for name, symbol in _PLURAL_TOO.items() if symbol == "m"},
    "megabits per second": "Mbps",
    "gigabits per second": "Gbps",
    "frames per second": "fps",
    **{f"{degree} celsius": "°C" for degree in ("degree", "degrees")},
    **{f"{degree} centigrade": "°C" for degree in ("degree", "degrees")},
    **{f"{degree} fahrenheit": "°F" for degree in ("degree", "degrees")},
}
"""Units that are written as a symbol after a number."""

DIGIT_UNITS = word_set(
    """foot feet inch inches mile miles yard yards pound pounds ounce ounces ton tons tonne tonnes gallon gallons
    pint pints quart quarts acre acres degree degrees knots calories bits bytes horsepower carats bucks"""
)
"""Units that stay words and yet make a number below ten digits."""
