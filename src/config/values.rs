//! Single values of `recon.toml`, and what is said where one is of another kind. Pure.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::DeValue;

use crate::model::MacAddr;

pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

pub(super) fn wrong(wanted: &str, value: &DeValue<'_>) -> String {
    format!("{wanted} is wanted, not {}", kind(value))
}

pub(super) fn string<'a>(value: &'a DeValue<'_>) -> Result<&'a str, String> {
    match value {
        DeValue::String(text) => Ok(text),
        other => Err(wrong("a text in quotation marks", other)),
    }
}

pub(super) fn number<T>(value: &DeValue<'_>, range: RangeInclusive<T>) -> Result<T, String>
where
    T: TryFrom<i64> + PartialOrd + std::fmt::Display,
{
    let DeValue::Integer(digits) = value else {
        return Err(wrong("a whole number", value));
    };
    let parsed = i64::from_str_radix(digits.as_str(), digits.radix()).ok();
    let number = parsed.and_then(|number| T::try_from(number).ok());
    number
        .filter(|number| range.contains(number))
        .ok_or_else(|| format!("{digits} is not between {} and {}", range.start(), range.end()))
}

pub(super) fn address(text: &str) -> Result<Ipv4Addr, String> {
    text.trim()
        .parse()
        .map_err(|_| format!("{text:?} is not an IPv4 address"))
}

/// First and last address of a range.
pub(super) fn ends(value: &DeValue<'_>) -> Result<(Ipv4Addr, Ipv4Addr), String> {
    let DeValue::Array(ends) = value else {
        return Err(wrong("two addresses in brackets", value));
    };
    let [first, last] = ends.iter().collect::<Vec<_>>()[..] else {
        return Err(format!("two addresses are wanted, not {}", ends.len()));
    };
    let read = |end: &Spanned<DeValue<'_>>| address(string(end.get_ref())?);
    Ok((read(first)?, read(last)?))
}

/// An interface name, or a MAC in lower case.
pub(super) fn link_name(text: &str) -> Result<String, String> {
    match text.trim().parse::<MacAddr>() {
        Ok(mac) => Ok(mac.to_string()),
        // IFNAMSIZ, with its closing zero byte.
        Err(_) if (1..=15).contains(&text.len()) && !text.contains(['/', ':', ' ']) => Ok(text.to_owned()),
        Err(_) => Err(format!("{text:?} is neither an interface name nor a MAC")),
    }
}
