//! The inventory as the master takes it: never larger than its bound, past which it would refuse the whole upload.

use serde_json::Value;

use crate::model::inventory::{Inventory, Item, Part, PartStatus};
use crate::model::shown::json_text;

/// The document in at most `limit` bytes where that can be had: for people, else without blanks, else without virtual functions,
/// of which a machine has thousands; that they are left out is said. People read it with whatever shows text, so what a terminal
/// would obey stands as an escape in it.
pub(crate) fn document(inventory: &Inventory, limit: usize) -> serde_json::Result<Vec<u8>> {
    let pretty = written(serde_json::to_string_pretty(inventory)?);
    if pretty.len() <= limit {
        return Ok(pretty);
    }
    let dense = written(serde_json::to_string(inventory)?);
    if dense.len() <= limit {
        return Ok(dense);
    }
    lean(inventory, limit)
}

fn written(text: String) -> Vec<u8> {
    json_text(&text).into_owned().into_bytes()
}

/// The shortest form: without blanks and virtual functions, and where that is still more than `limit` bytes, without the values
/// of the largest parts, each of which says so.
pub(crate) fn lean(inventory: &Inventory, limit: usize) -> serde_json::Result<Vec<u8>> {
    let mut smaller = inventory.clone();
    keep(&mut smaller.nics, |nic| nic.physical_function.is_none());
    keep(&mut smaller.pci, |function| function.physical_function.is_none());
    let mut dense = written(serde_json::to_string(&smaller)?);
    if dense.len() <= limit {
        return Ok(dense);
    }
    let mut whole = serde_json::to_value(&smaller)?;
    while dense.len() > limit
        && let Some((bytes, part)) = largest(&mut whole)
    {
        part["value"] = Value::Null;
        part["status"] = PartStatus::Failed.as_str().into();
        part["reason"] =
            format!("left out: it has {bytes} bytes, and the master takes {limit} of a whole inventory").into();
        if let Some(part) = part.as_object_mut() {
            part.remove("items");
        }
        dense = written(serde_json::to_string(&whole)?);
    }
    Ok(dense)
}

/// The part with the longest value, and how long it is.
fn largest(whole: &mut Value) -> Option<(usize, &mut Value)> {
    let parts = whole.as_object_mut()?.values_mut();
    let valued = parts.filter(|part| part.get("value").is_some_and(|value| !value.is_null()));
    valued
        .map(|part| (serde_json::to_string(part).map_or(0, |text| text.len()), part))
        .max_by_key(|(bytes, _)| *bytes)
}

fn keep<T>(part: &mut Part<Vec<T>>, wanted: impl Fn(&T) -> bool) {
    let Some(list) = &mut part.value else { return };
    let all = list.len();
    list.retain(wanted);
    if list.len() < all {
        let reason = format!("{all}, of which {} are here: without virtual functions", list.len());
        part.items.push(Item::gap("count", PartStatus::Failed, reason));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::inventory::{Nic, PciFunction};
    use crate::probe::{Options, Root, collect};

    #[test]
    fn a_part_that_alone_is_too_large_is_left_out_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let mut inventory = collect(&Root::at(dir.path()), None, &Options::new(""));
        let nic = |number: usize| Nic {
            name: format!("eth{number}"),
            ..Nic::default()
        };
        inventory.nics = Part::ok("test", (0..200).map(nic).collect());
        let whole = serde_json::to_vec(&inventory).unwrap();
        let limit = whole.len() - 1000;
        let small = document(&inventory, limit).unwrap();
        assert!(small.len() <= limit, "{} of {limit}", small.len());
        let told: Inventory = serde_json::from_slice(&small).unwrap();
        assert_eq!((told.nics.value, told.nics.status), (None, PartStatus::Failed));
        assert!(told.nics.reason.unwrap().starts_with("left out: it has "));
        assert_eq!(told.run, inventory.run, "the rest is as it was");
        // Not even that fits: it ends all the same.
        assert!(lean(&inventory, 10).unwrap().len() > 10);
    }

    #[test]
    fn a_document_that_is_too_large_is_told_in_fewer_bytes_and_says_what_it_lacks() {
        let dir = tempfile::tempdir().unwrap();
        let mut inventory = collect(&Root::at(dir.path()), None, &Options::new(""));
        let function = |number: usize| (number > 0).then(|| "0000:18:00.0".to_owned());
        let nic = |number: usize| Nic {
            name: format!("eth{number}"),
            physical_function: function(number),
            ..Nic::default()
        };
        let pci = |number: usize| PciFunction {
            address: format!("0000:18:{number:02x}.0"),
            physical_function: function(number),
            ..PciFunction::default()
        };
        inventory.nics = Part::ok("test", (0..200).map(nic).collect());
        inventory.pci = Part::ok("test", (0..200).map(pci).collect());
        let whole = document(&inventory, usize::MAX).unwrap();
        assert_eq!(whole, serde_json::to_vec_pretty(&inventory).unwrap());
        let dense = document(&inventory, whole.len() - 1).unwrap();
        assert_eq!(serde_json::from_slice::<Inventory>(&dense).unwrap(), inventory);
        let limit = dense.len() / 2;
        let small = document(&inventory, limit).unwrap();
        assert!(small.len() <= limit);
        let told: Inventory = serde_json::from_slice(&small).unwrap();
        assert_eq!((told.nics.value.unwrap().len(), told.pci.value.unwrap().len()), (1, 1));
        assert_eq!(
            told.nics.items[0].reason.as_deref(),
            Some("200, of which 1 are here: without virtual functions")
        );
    }
}
