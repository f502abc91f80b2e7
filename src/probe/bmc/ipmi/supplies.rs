//! Power supplies, put together from their sensors and their field replaceable units. Pure.

use super::names::is_well;
use crate::model::inventory::{BmcPowerSupply, Fru, Sensor};

/// Words of the table, of sensors as of entities, and of a state.
pub(crate) const KIND: &str = "power supply";
pub(crate) const PRESENT: &str = "presence detected";

/// One line a supply, in order of the sensors; a unit without a sensor comes last.
pub(crate) fn power_supplies(sensors: &[Sensor], frus: &[Fru]) -> Vec<BmcPowerSupply> {
    let mut supplies: Vec<BmcPowerSupply> = Vec::new();
    // Only state sensors tell of presence and faults; redundancy is of all supplies together, and has another kind.
    for sensor in sensors
        .iter()
        .filter(|sensor| sensor.kind == KIND && sensor.status.is_none())
    {
        let name = match &sensor.entity {
            Some(entity) if entity.starts_with(KIND) => entity.clone(),
            _ => sensor.name.clone(),
        };
        let at = position(&mut supplies, &name);
        let supply = &mut supplies[at];
        if sensor.states.iter().any(|state| state == PRESENT) {
            supply.present = Some(true);
        } else if sensor.unavailable.is_none() && sensor.states.is_empty() {
            supply.present.get_or_insert(false);
        }
        for state in sensor.states.iter().filter(|state| !is_well(state)) {
            if !supply.faults.contains(state) {
                supply.faults.push(state.clone());
            }
        }
    }
    for fru in frus {
        let Some(entity) = fru.entity.as_ref().filter(|entity| entity.starts_with(KIND)) else {
            continue;
        };
        let at = position(&mut supplies, entity);
        let supply = &mut supplies[at];
        // It answers, so it is there, unless its sensor says otherwise.
        supply.present.get_or_insert(true);
        supply.capacity_watts = fru.multirecords.iter().find_map(|record| record.capacity_watts);
        if let Some(product) = &fru.product {
            supply.manufacturer = product.manufacturer.clone();
            supply.product = product.product.clone();
            supply.part_number = product.part_number.clone();
            supply.serial = product.serial.clone();
        }
        if let Some(board) = &fru.board {
            let fill = |field: &mut Option<String>, from: &Option<String>| {
                if field.is_none() {
                    field.clone_from(from);
                }
            };
            fill(&mut supply.manufacturer, &board.manufacturer);
            fill(&mut supply.product, &board.product);
            fill(&mut supply.part_number, &board.part_number);
            fill(&mut supply.serial, &board.serial);
        }
    }
    supplies
}

/// Where the supply of that name stands; a new one is added.
fn position(supplies: &mut Vec<BmcPowerSupply>, name: &str) -> usize {
    if let Some(at) = supplies.iter().position(|supply| supply.name == name) {
        return at;
    }
    supplies.push(BmcPowerSupply {
        name: name.to_owned(),
        ..BmcPowerSupply::default()
    });
    supplies.len() - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::inventory::{FruMultirecord, FruProduct};

    fn sensor(entity: &str, states: &[&str]) -> Sensor {
        Sensor {
            name: format!("{entity} status"),
            kind: KIND.to_owned(),
            entity: Some(entity.to_owned()),
            states: states.iter().map(|state| (*state).to_owned()).collect(),
            ..Sensor::default()
        }
    }

    #[test]
    fn sensors_and_units_meet_by_entity() {
        let mut watts = sensor("power supply 1", &[]);
        watts.status = Some("ok".to_owned());
        let mut gone = sensor("power supply 3", &[]);
        gone.unavailable = Some("not present".to_owned());
        let sensors = [
            sensor("power supply 1", &["presence detected"]),
            watts,
            sensor("power supply 2", &["presence detected", "input lost"]),
            gone,
        ];
        let fru = Fru {
            entity: Some("power supply 2".to_owned()),
            product: Some(FruProduct {
                serial: Some("PS-2".to_owned()),
                ..FruProduct::default()
            }),
            multirecords: vec![FruMultirecord {
                capacity_watts: Some(1100),
                ..FruMultirecord::default()
            }],
            ..Fru::default()
        };
        let supplies = power_supplies(&sensors, &[Fru::default(), fru]);
        let told: Vec<_> = supplies
            .iter()
            .map(|supply| {
                (
                    supply.name.as_str(),
                    supply.present,
                    supply.faults.join(","),
                    supply.capacity_watts,
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("power supply 1", Some(true), String::new(), None),
                ("power supply 2", Some(true), "input lost".to_owned(), Some(1100)),
                ("power supply 3", None, String::new(), None),
            ]
        );
        assert_eq!(supplies[1].serial.as_deref(), Some("PS-2"));
    }
}
