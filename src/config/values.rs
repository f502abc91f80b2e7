//! Single values of `recon.toml`, and what is said where one is of another kind. Pure.

use std::fmt::Display;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use toml::Spanned;
use toml::de::DeValue;

use crate::model::MacAddr;
use crate::model::inventory::is_placeholder;

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

/// What a text says.
pub(super) fn parsed<T: FromStr<Err: Display>>(value: &DeValue<'_>) -> Result<T, String> {
    string(value)?.parse().map_err(|error: T::Err| error.to_string())
}

pub(super) fn boolean(value: &DeValue<'_>) -> Result<bool, String> {
    match value {
        DeValue::Boolean(is) => Ok(*is),
        other => Err(wrong("true or false", other)),
    }
}

/// A text of at most 200 bytes, without control characters.
pub(super) fn one_line(value: &DeValue<'_>) -> Result<String, String> {
    let text = string(value)?;
    if text.len() > 200 || text.chars().any(char::is_control) {
        return Err("at most 200 bytes on one line".to_owned());
    }
    Ok(text.to_owned())
}

/// Words for a kernel's command line.
pub(super) fn kernel_words(value: &DeValue<'_>) -> Result<String, String> {
    let text = string(value)?;
    match text.chars().any(|c| c.is_control() || c == '$') {
        true => Err("control characters and $ would break the boot script".to_owned()),
        false => Ok(text.to_owned()),
    }
}

/// The serial number of a system, which tells it from others.
pub(super) fn serial(value: &DeValue<'_>) -> Result<String, String> {
    let text = one_line(value)?;
    match text.trim() {
        "" => Err("it is empty, as that of many machines is".to_owned()),
        text if is_placeholder(text) => Err("many machines have that one: their makers gave them none".to_owned()),
        text => Ok(text.to_owned()),
    }
}

/// The texts of a list with at most `most` of what `items` names. `wanted`: what it is to be.
pub(super) fn list<'a>(
    value: &'a DeValue<'_>,
    wanted: &str,
    items: &str,
    most: usize,
) -> Result<impl Iterator<Item = Result<&'a str, String>>, String> {
    match value {
        DeValue::Array(all) if all.len() > most => Err(format!("{} {items}; at most {most} are read", all.len())),
        DeValue::Array(all) => Ok(all.iter().map(|one| string(one.get_ref()))),
        other => Err(wrong(wanted, other)),
    }
}

pub(super) fn number<T>(value: &DeValue<'_>, range: RangeInclusive<T>) -> Result<T, String>
where
    T: TryFrom<i64> + PartialOrd + Display,
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

pub(super) fn address(value: &DeValue<'_>) -> Result<Ipv4Addr, String> {
    address_of(string(value)?)
}

pub(super) fn address_of(text: &str) -> Result<Ipv4Addr, String> {
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
    let read = |end: &Spanned<DeValue<'_>>| address(end.get_ref());
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
